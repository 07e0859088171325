"""What is right when a system call failed."""

from __future__ import annotations

import errno
import os
import re
from errno import ECHILD
from typing import Any

CHANGING = re.compile(r"nsdemo-rootfs-\w+|/proc/self/fd/\d+")


def normal(output: str) -> list[str]:
    """The witness's lines without what is new in every launch."""
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    found = []
    in_mounts = False
    for line in output.splitlines():
        if line in ("memfd:nsdemo", "nsdemo-init") or re.fullmatch(r"#\d+", line):
            continue  # PID 1, before and after it has its name
        if line.startswith("file "):
            in_mounts = "mountinfo" in line
        elif line.startswith("link ns/"):
            name, target = line.split(maxsplit=2)[1:]
            kind = name.partition("/")[2]
            line = f"link {name} {'ours' if target == ours.get(kind) else 'new'}"
        elif in_mounts and " - " in line:
            left, _, right = line.partition(" - ")
            _, _, _, *rest = left.split()
            kind, *_ = right.split()
            line = " ".join([*rest[:3], kind])
        found.append(CHANGING.sub("X", line))
    return found


def judge(case: Any, found: dict[str, Any], expected: list[str] | None) -> str:
    """What is wrong with the outcome of a case; "" if nothing is."""
    if "broken" in found:
        return f"the harness: {found['broken'].splitlines()[-1]}"
    if "hang" in found:
        return f"hang: {found['hang']}"
    if "error" not in found:
        return "the process that called died"
    kinds = (found["error"] or {}).get("type", ())
    if case is not None and case.recipe == "persist" and "NamespaceError" not in kinds:
        found["left"] = [each for each in found["left"] if "uts" not in each]  # it was launched
    # Other programs of this user have files there, too.
    found["left"] = [each for each in found["left"] if not str(each).startswith("shared memory")]
    if found["left"]:
        return "left behind: " + "; ".join(map(str, found["left"]))
    if found["error"] is None:
        return judge_success(case, found, expected)
    return judge_error(case, found)


def judge_success(case: Any, found: dict[str, Any], expected: list[str] | None) -> str:
    if found["returncode"] != 7:
        return f"the command ended with {found['returncode']}, and nothing is raised"
    seen = normal(found["output"])
    if expected is None or seen == expected:
        return ""
    if (case.call, case.error) == ("read", errno.EIO):
        return ""  # that is how a terminal says that nobody has its other end any more
    more = [line for line in seen if line not in expected]
    less = [line for line in expected if line not in seen]
    return f"a success that was none: + {more} - {less}"


def judge_error(case: Any, found: dict[str, Any]) -> str:
    facts = found["error"]
    kinds = facts["type"]
    if "MemoryError" in kinds:
        return ""
    if "OSError" not in kinds and any("importlib" in place for place in found["where"]):
        return ""  # Python's own way to say that a module cannot be read
    if "OSError" not in kinds:
        return f"{kinds[0]} is raised: {facts['text']}"
    if facts["operation"] == "write" and "newgidmap" in facts["text"] + "newuidmap":
        return ""  # a program of its own, with words of its own
    if (
        case.recipe == "maps"
        and case.call in ("read", "sendto")
        and facts["operation"] == "map_ids"
    ):
        return ""  # who writes the maps has ended, and was not asked why
    if case.call == "mmap" and case.error == errno.EINVAL and facts["errno"] == ECHILD:
        return ""  # what the kernel says of a file that is no plan
    if facts["operation"] == "terminal" and case.side == "caller":
        return ""  # there is none where we are, and the launcher finds none inside
    if facts["operation"] == "start" and case.call == "pidfd_open" and facts["errno"] == ECHILD:
        return ""  # who was to watch has ended, which is noticed
    is_gone = case.call in ("openat", "readlinkat") and case.error == errno.ENOENT
    if is_gone and facts["errno"] == errno.ESRCH:
        return ""  # a process that has no directory in /proc has ended
    if facts["errno"] != case.error:
        return f"errno {facts['errno']} is raised, not {case.error}: {facts['text']}"
    if "NamespaceError" in kinds and not facts["operation"]:
        return "no step is named"
    return ""
