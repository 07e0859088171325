"""Who is who in a new user namespace: ``uid_map``, ``gid_map``, ``setgroups`` and ``owner``.

Loaded only by a call that uses one of these keywords.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .values import check_id

if TYPE_CHECKING:
    from .._core import Wishes
    from .given import SpawnRequest

IDS = 2**32 - 1  # 0 to 2**32-2 exist; 2**32-1 means "leave it" to the kernel
MOST_ENTRIES = 340  # user_namespaces(7), since Linux 4.15
WORDS = ("auto", "current", "subids", "all")
KEYWORDS = ("uid_map", "gid_map", "setgroups", "owner")

Entry = tuple[int, int, int]  # inside, outside, count

# Where Debian, Fedora, Arch and Alpine have them, and NixOS. Never the caller's PATH.
_FOLDERS = ("/usr/bin", "/bin", "/run/wrappers/bin", "/usr/local/bin")


def must_be_new(request: SpawnRequest) -> None:
    """ValueError where the user namespace of a call of spawn is not a new one."""
    name = next(f"{name}=" for name in KEYWORDS if getattr(request, name) is not None)
    if request.user is not None and request.user is not True:
        raise ValueError(f"{name} is for a new user namespace: user=True, or leave user out")
    if request.join is not None and request.user is None:
        raise ValueError(
            f"{name} is for a new user namespace, and join= takes the target's: user=True as well "
            "makes a new one inside"
        )


def _number(keyword: str, what: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{keyword}: {what} is an int, not {value!r}")
    if what == "count":
        if not 1 <= value <= IDS:
            raise ValueError(f"{keyword}: count is how many ids, 1 to {IDS}, not {value}")
    elif not 0 <= value < IDS:
        raise ValueError(f"{keyword}: an id {what} is 0 to {IDS - 1}, not {value}")
    return value


def _disjoint(keyword: str, where: str, ranges: Iterable[tuple[int, int]]) -> None:
    before = (0, 0)
    for first, count in sorted(ranges):
        if first < sum(before):
            raise ValueError(
                f"{keyword}: the ids {before[0]} to {sum(before) - 1} {where} and {first} to "
                f"{first + count - 1} overlap: each id is mapped once"
            )
        before = first, count


def checked_entries(keyword: str, value: Any) -> tuple[Entry, ...]:
    """The triples of a map, as the kernel would take them."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(
            f"{keyword} is a list of (inside, outside, count), or one of "
            f"{', '.join(map(repr, WORDS))}, not {value!r}"
        )
    entries = []
    for entry in value:
        if isinstance(entry, (str, bytes)) or not isinstance(entry, Sequence) or len(entry) != 3:
            raise TypeError(f"{keyword}: an entry is (inside, outside, count), not {entry!r}")
        names = ("inside", "outside", "count")
        inside, outside, count = (
            _number(keyword, name, number) for name, number in zip(names, entry, strict=True)
        )
        if max(inside, outside) + count > IDS:
            raise ValueError(f"{keyword}: {entry!r} goes beyond the last id, {IDS - 1}")
        entries.append((inside, outside, count))
        if len(entries) > MOST_ENTRIES:
            raise ValueError(f"{keyword}: the kernel takes at most {MOST_ENTRIES} entries")
    if not entries:
        raise ValueError(f"{keyword} is empty: nobody would exist inside")
    _disjoint(keyword, "inside", ((inside, count) for inside, _, count in entries))
    _disjoint(keyword, "outside", ((outside, count) for _, outside, count in entries))
    return tuple(entries)


def ranges_in(path: str) -> list[tuple[str, int, int]]:
    """The (user's name or uid, first, count) lines of /etc/subuid or /etc/subgid."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, *numbers = line.strip().split(":")
                if len(numbers) == 2 and all(n.isascii() and n.isdecimal() for n in numbers):
                    first, count = map(int, numbers)
                    if count and first + count <= IDS:
                        found.append((name, first, count))
    except FileNotFoundError:
        pass
    return found


def ranges_of(path: str, uid: int) -> list[tuple[int, int]]:
    """The (first, count) ranges of a user."""
    names = (str(uid), user_name(uid))
    return [(first, count) for name, first, count in ranges_in(path) if name in names]


def user_name(uid: int) -> str:
    """Its name, or its number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def how_to_get_a_range(kind: str, uid: int) -> str:
    """What root does for a user without a range in /etc/subuid or /etc/subgid."""
    free = max([100000, *(first + count for _, first, count in ranges_in(f"/etc/sub{kind}"))])
    return f"as root, usermod --add-sub{kind}s {free}-{free + 65535} {user_name(uid)}"


def _first_range(word: str, kind: str) -> tuple[int, int]:
    path, uid = f"/etc/sub{kind}", os.geteuid()
    ranges = ranges_of(path, uid)
    if not ranges:
        raise ValueError(
            f"{kind}_map={word!r}: {path} has no range for {user_name(uid)} (uid {uid}): "
            f"{how_to_get_a_range(kind, uid)}; or name the ids yourself"
        )
    return ranges[0]


def _auto(kind: str, own: int) -> tuple[Entry, ...]:
    """The caller is 0, and the ids from 1 on are his first range: as many ids as that has."""
    first, count = _first_range("auto", kind)
    entries: tuple[Entry, ...] = ((0, own, 1),)
    if count > 1 and not first <= own < first + count - 1:
        entries += ((1, first, count - 1),)
    return entries


def _subids(kind: str, own: int) -> tuple[Entry, ...]:
    """The caller is 0, and the ids of his first range keep their numbers."""
    first, count = _first_range("subids", kind)
    end = first + count
    cuts = sorted({each for each in (0, own) if first <= each < end})
    starts, ends = (first, *(cut + 1 for cut in cuts)), (*cuts, end)
    kept = ((a, a, b - a) for a, b in zip(starts, ends, strict=True) if a < b)
    return ((0, own, 1), *kept)


def _all(kind: str) -> tuple[Entry, ...]:
    """Every id that there is here keeps its number."""
    with open(f"/proc/thread-self/{kind}_map", encoding="utf-8") as file:
        rows = _rows(file.read())
    return tuple((inside, inside, count) for inside, _, count in rows)


def _entries(kind: str, value: Any, own: int) -> tuple[Entry, ...]:
    keyword = f"{kind}_map"
    if value is None:
        return ((0, own, 1),)
    if isinstance(value, str):
        if value not in WORDS:
            raise ValueError(f"{keyword} is a list, or one of {WORDS}, not {value!r}")
        if value == "all":
            return _all(kind)
        if value == "current":
            return ((own, own, 1),)
        return _auto(kind, own) if value == "auto" else _subids(kind, own)
    return checked_entries(keyword, value)


def as_text(keyword: str, entries: Iterable[Entry]) -> bytes:
    """A map as its file takes it, in one write."""
    text = "\n".join(" ".join(map(str, entry)) for entry in entries).encode()
    page = os.sysconf("SC_PAGE_SIZE")
    if len(text) >= page:
        raise ValueError(
            f"{keyword}: the map has {len(text)} bytes as a text, and the kernel takes less than "
            f"{page}: fewer, larger ranges"
        )
    return text


def inside_of(entries: Iterable[Entry], own: int) -> int:
    """What an id outside is inside; -1 if nothing."""
    for inside, outside, count in entries:
        if outside <= own < outside + count:
            return inside + own - outside
    return -1


def _has_root(entries: Iterable[Entry]) -> bool:
    return any(inside == 0 for inside, _, _ in entries)


def _program(name: str) -> bytes:
    """Its path; where it is nowhere, the first place, so that the error can name it."""
    paths = [f"{folder}/{name}" for folder in _FOLDERS]
    return next((path for path in paths if os.path.exists(path)), paths[0]).encode()


def _owner(value: Any, *, may: bool) -> tuple[int, int]:
    if value is None:
        return -1, -1
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"owner is (uid, gid), not {value!r}")
    uid, gid = (check_id("owner", each) for each in value)
    if not may:
        raise ValueError(
            f"owner= makes a user namespace in somebody else's name, which takes root's power "
            f"(CAP_SETUID, CAP_SETGID); uid {os.geteuid()} has not: it will belong to you"
        )
    return uid, gid


def _setgroups(value: Any, gids: Sequence[Entry], own: int, *, power: bool) -> bytes | None:
    """Nobody may drop a group that keeps him out: whoever writes his own map denies it first."""
    if value not in (None, "allow", "deny"):
        raise ValueError(f"setgroups is 'allow' or 'deny', not {value!r}")
    alone = len(gids) == 1 and gids[0][1:] == (own, 1)
    if value == "allow" and alone and not power:
        raise ValueError(
            "setgroups='allow' takes root, or a gid_map with ids of /etc/subgid ('auto'): a user "
            "who maps his own group alone could drop groups that keep him out of files "
            "(CVE-2014-8989)"
        )
    return (value or ("deny" if alone else "")).encode() or None


def checked_users(
    uid_map: Any, gid_map: Any, setgroups: Any, owner: Any, *, sets_uids: bool, sets_gids: bool
) -> tuple[Wishes, int]:
    """Who is who, and the caller's uid inside, -1 for nobody's."""
    if uid_map is None and isinstance(gid_map, str):
        uid_map = gid_map
    if gid_map is None and isinstance(uid_map, str):
        gid_map = uid_map
    own = os.geteuid(), os.getegid()
    uids, gids = _entries("uid", uid_map, own[0]), _entries("gid", gid_map, own[1])
    owner = _owner(owner, may=sets_uids and sets_gids)
    power = sets_uids and sets_gids
    setgroups = _setgroups(setgroups, gids, own[1], power=power)
    selves = [
        len(rows) == 1 and rows[0][1:] == (mine, 1)
        for rows, mine in zip((uids, gids), own, strict=True)
    ]
    outside = not all(selves) or setgroups != b"deny" or owner != (-1, -1)
    here = inside_of(uids, own[0]), inside_of(gids, own[1])
    become = -1, -1
    if -1 in here or owner != (-1, -1):
        become = (0, 0) if _has_root(uids) and _has_root(gids) else (-1, -1)
        if become != (0, 0) and owner != (-1, -1):
            become = here
    users: Wishes = {
        "uid_map": as_text("uid_map", uids),
        "setgroups": setgroups,
        "gid_map": as_text("gid_map", gids),
        "outside": outside,
        "newuidmap": None if selves[0] or sets_uids else _program("newuidmap"),
        "newgidmap": None if selves[1] or sets_gids else _program("newgidmap"),
        "owner": owner,
        "first": become,
    }
    return users, max(here[0], become[0]) if become[0] else 0


# -- the same for unshare(1) ---------------------------------------------------------------------


def _rows(text: str) -> list[Entry]:
    numbers = [int(word) for word in text.split()]
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def unshare_options(files: Mapping[str, str], own: tuple[int, int]) -> tuple[list[str], list[str]]:
    """The options of unshare(1) that write "uid_map", "setgroups" and "gid_map"; and what it
    cannot do: it writes its setgroups option behind gid_map, when it is too late to deny."""
    maps = _rows(files.get("uid_map", "")), _rows(files.get("gid_map", ""))
    alone = maps[1] == [(maps[1][0][0], own[1], 1)] if maps[1] else False
    beyond = []
    if files.get("setgroups") == ("allow" if alone else "deny"):
        beyond.append(f"{files['setgroups']} setgroups with these groups")
    for word, ids in (("root", (0, 0)), ("current", own)):
        if all(rows == [(into, mine, 1)] for rows, into, mine in zip(maps, ids, own, strict=True)):
            return [f"--map-{word}-user"], beyond
    words = []
    for kind, rows, mine in zip(("user", "group"), maps, own, strict=True):
        selves = [inside for inside, outside, count in rows if (outside, count) == (mine, 1)]
        ranges = [row for row in rows if row[1:] != (mine, 1)]
        words += [f"--map-{kind}={inside}" for inside in selves]
        if len(ranges) == 1:  # as util-linux 2.38 has it; several of them need 2.39
            inside, outside, count = ranges[0]
            words.append(f"--map-{kind}s={outside},{inside},{count}")
        else:
            words += [f"--map-{kind}s={':'.join(map(str, row))}" for row in ranges]
    return words, beyond
