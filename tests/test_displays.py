"""Pictures: what they show is what /proc says, read in another way."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pictures import Taken, taken
from support import IS_ROOT, QUIET, eventually, script
from targets import POWERS

import nsdemo
from nsdemo import notebook

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {"mount": "mnt"}
KINDS = ("mount", "uts", "ipc", "pid", "net", "user", "cgroup", "time")
NULL = "mount -t tmpfs x /dev && : >/dev/null"
TREE = f"{NULL}; sh -c 'sleep 1000 & exec sleep 1001' & echo ready; exec sleep 1002"


@contextlib.contextmanager
def shell(rootfs: Path, text: str, **options: Any) -> Iterator[nsdemo.Container[str]]:
    """A container whose shell has said "ready"."""
    options = {**QUIET, "stdout": nsdemo.PIPE, "text": True, **options}
    with nsdemo.spawn(["sh", "-c", text], root=rootfs, **options) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        yield box


@pytest.fixture(scope="module", params=POWERS)
def box(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[nsdemo.Container[str]]:
    with shell(rootfs, TREE, user=request.param, hostname="boxy") as container:
        yield container


def inode(pid: int | str, kind: str) -> str:
    link = os.readlink(f"/proc/{pid}/ns/{FILES.get(kind, kind)}")
    return link.split("[")[1].rstrip("]")


# The card and the matrix


def test_the_card_has_one_box_for_what_is_shared(box: nsdemo.Container[str]) -> None:
    picture = notebook.card(box)
    card = taken(picture)
    shared = [kind for kind in KINDS if inode("self", kind) == inode(box.pid, kind)]
    isolated = [kind for kind in KINDS if kind not in shared]
    assert {"mount", "uts", "ipc", "pid"} <= set(isolated)
    assert len(card.kind("nsd-shared")) == len(shared)
    assert len(card.kind("nsd-left")) == len(card.kind("nsd-isolated")) == len(isolated)
    assert f"Shared: {', '.join(shared)}. Isolated: {', '.join(isolated)}." in card.said
    rows = {line.split()[0]: line for line in picture.text.splitlines()}
    for kind in KINDS:
        word = "shared" if kind in shared else "isolated"
        assert inode(box.pid, kind) in rows[kind]
        assert word in rows[kind]
        assert f"{inode(box.pid, kind)} {word}" in card.all


def test_a_shared_box_covers_both_columns(box: nsdemo.Container[str]) -> None:
    card = taken(notebook.card(box))
    (left, *_), (right, *_) = card.kind("nsd-left"), card.kind("nsd-isolated")
    start, end = float(left.get("x", "")), float(right.get("x", "")) + float(right.get("width", ""))
    for shared in card.kind("nsd-shared"):
        assert float(shared.get("x", "")) == start
        assert float(shared.get("x", "")) + float(shared.get("width", "")) == pytest.approx(end)


def test_two_processes_side_by_side(box: nsdemo.Container[str]) -> None:
    with nsdemo.spawn(["sleep", "1000"], join=box, **QUIET) as joined:
        card = taken(notebook.card(box, joined))
        assert len(card.kind("nsd-shared")) == 8
        assert not card.kind("nsd-isolated")
        assert f"pid {box.pid}" in card.said
        assert f"pid {joined.pid}" in card.said


def test_the_callers_own_card() -> None:
    rows = taken(notebook.card()).rows
    assert [row[:2] for row in rows] == [[kind, inode("self", kind)] for kind in KINDS]


def test_the_matrix_has_a_letter_for_each_namespace() -> None:
    with (
        nsdemo.spawn(["sleep", "1000"], net=True, **QUIET) as pause,
        nsdemo.spawn(["sleep", "1000"], net=pause, ipc=pause, uts=pause, **QUIET) as web,
    ):
        for picture in (
            notebook.matrix({"pause": pause, "web": web}),
            notebook.matrix(pause=pause, web=web),
        ):
            matrix = taken(picture)
            heads = ["".join(cell.itertext()) for cell in next(matrix.root.iter("thead"))[0]]
            assert heads == ["namespace", "you", "pause", "web"]
            for kind, *cells in matrix.rows:
                letters, inodes = zip(*map(str.split, cells), strict=True)
                assert list(inodes) == [inode(pid, kind) for pid in ("self", pause.pid, web.pid)]
                for one in range(3):
                    for other in range(3):
                        same = inodes[one] == inodes[other]
                        assert (letters[one] == letters[other]) == same
            shared = {row[0]: row[2][0] == row[3][0] for row in matrix.rows}
            assert shared["net"]
            assert shared["uts"]
            assert not shared["mount"]


# Processes


def test_the_tree_has_both_pids_of_each(box: nsdemo.Container[str]) -> None:
    picture = notebook.processes(box)
    tree = taken(picture)
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    inside = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            if inode(pid, "pid") == inode(box.pid, "pid"):
                status = Path(f"/proc/{pid}/status").read_text()
                inside[pid] = re.findall(r"^NSpid:.*\t(\d+)$", status, re.MULTILINE)[0]
    assert len(inside) == 3
    assert sorted(tree.words("nsd-inner")) == sorted(inside.values())
    assert len(tree.kind("nsd-process")) == 4  # and the process outside that they come from
    for pid, inner in inside.items():
        assert f"Pid {pid}, inside {inner}, child of " in tree.said
        assert re.search(rf"^ *{pid} +{inner} .*sleep 100\d$", picture.text, re.MULTILINE)
    assert re.search(rf"^ *{os.getpid()} +- .*\(outside\)$", picture.text, re.MULTILINE)
    assert len(tree.kind("nsd-isolated")) == 1


def test_the_branches_lead_to_the_parents(rootfs: Path) -> None:
    text = f"{NULL}; sh -c 'sleep 1 & wait; sleep 1000 & echo ready; wait'; true"
    with shell(rootfs, text) as box:
        lines = notebook.processes(box).text.splitlines()
        depths = [line.index("─ ") // 3 for line in lines if "─ " in line]
        assert depths == sorted(depths)
        assert len(set(depths)) == 3


def test_a_zombie_is_called_one(rootfs: Path) -> None:
    # The shell becomes a sleep, which waits for nobody.
    with shell(rootfs, f"{NULL}; (sleep 0.2) & echo ready; exec sleep 1000") as box:
        drawn = eventually(lambda: taken(notebook.processes(box)).words("nsd-odd"))
        assert [words.split("] ")[1] for words in drawn] == ["[zombie]"]


def test_without_a_pid_namespace_it_says_so(rootfs: Path) -> None:
    with shell(rootfs, "echo ready; exec sleep 1000", pid=False) as box:
        tree = taken(notebook.processes(box))
        assert tree.words("nsd-inner") == [str(box.pid)]
        assert "Its pid namespace is ours" in tree.said
        assert tree.kind("nsd-shared")
        assert not tree.kind("nsd-isolated")


def test_nested_pids_are_a_chain(rootfs: Path) -> None:
    text = "unshare -pf sh -c 'echo ready; exec sleep 1000'; true"
    with shell(rootfs, text) as box:
        chains = [
            words for words in taken(notebook.processes(box)).words("nsd-inner") if " > 1" in words
        ]
        assert len(chains) == 1


# The trace and the plan


def test_the_timeline_has_a_lane_for_each_process(box: nsdemo.Container[str]) -> None:
    picture = notebook.timeline(box)
    timeline = taken(picture)
    pids = list(dict.fromkeys(step.pid for step in box.trace))
    assert len(timeline.kind("nsd-thread")) == len(pids) == 2
    lanes = timeline.words("nsd-lane")
    assert [re.findall(r"process (\d+): ", lane) for lane in lanes] == [[str(pid)] for pid in pids]
    assert lanes[1].endswith("the command")
    assert len(timeline.kind("nsd-step")) == len(timeline.kind("nsd-time")) == len(box.trace)
    assert len(timeline.kind("nsd-call")) == len(box.trace)
    assert not timeline.kind("nsd-failed")
    assert len(timeline.kind("nsd-birth")) == 1
    # A step's dot is in the lane of its process.
    places = {dot.get("cx") for dot in timeline.kind("nsd-step")}
    assert len(places) == 2
    for step, dot in zip(box.trace, timeline.kind("nsd-step"), strict=True):
        lane = pids.index(step.pid)
        points = timeline.kind("nsd-thread")[lane].get("points", "")
        assert points.startswith(f"{dot.get('cx')},")
    assert 'sethostname("boxy", 4)' in picture.text


def test_an_init_has_its_lane(rootfs: Path) -> None:
    with nsdemo.spawn(["sleep", "1000"], init=True, root=rootfs, **QUIET) as box:
        timeline = taken(notebook.timeline(box.trace))
        assert [lane.split(": ")[1] for lane in timeline.words("nsd-lane")][1:] == [
            "the container's init",
            "the command",
        ]
        assert len(timeline.kind("nsd-birth")) == 2


@pytest.fixture
def failure(tmp_path: Path) -> nsdemo.NamespaceError:
    with pytest.raises(nsdemo.NamespaceError) as caught:
        nsdemo.run(["true"], root=tmp_path, **QUIET)
    return caught.value


def test_a_failure_is_marked(failure: nsdemo.NamespaceError) -> None:
    picture = notebook.timeline(failure)
    timeline = taken(picture)
    assert len(timeline.kind("nsd-failed")) == 1
    assert len(timeline.kind("nsd-step")) == len(failure.trace) - 1
    assert timeline.words("nsd-call")[-1].endswith("FAILED ENOENT (No such file or directory)")
    assert "failed: mount." in timeline.said
    assert timeline.words("nsd-lane")[-1].endswith("was to be the command")
    assert "FAILED ENOENT" in picture.text


def test_an_error_shows_step_cause_and_hint(failure: nsdemo.NamespaceError) -> None:
    shown = Taken(failure._repr_html_())
    rows = shown.rows
    assert [row[0] for row in rows] == ["step", "cause", "hint"]
    assert rows[0][1].startswith(f'step {len(failure.trace)}: mount("proc", ')
    assert rows[1][1].startswith("mount proc on ")
    assert rows[2][1] == failure.__notes__[0]
    assert len(shown.drawings) == 1
    text = notebook.failure(failure).text
    assert "cause: mount proc on" in text
    assert "hint: there is no" in text


def test_a_plan_lists_what_would_be_done(rootfs: Path) -> None:
    plan = nsdemo.spawn(["sh"], root=rootfs, init=True, dry_run=True)
    shown = Taken(plan._repr_html_())
    assert [row[2].split("(")[0] for row in shown.rows] == [str(s).split("(")[0] for s in plan]
    who = [row[1] for row in shown.rows]
    assert list(dict.fromkeys(who)) == ["first", "second", "third"]
    assert "# equals: unshare --" in shown.all
    assert "nothing has run" in notebook.plan(plan).text
    assert taken(notebook.plan(nsdemo.Plan())).rows == []


def test_a_result_shows_status_output_and_trace() -> None:
    done = nsdemo.run(
        ["sh", "-c", "echo '<b>out'; echo err >&2; exit 3"], **QUIET, capture_output=True, text=True
    )
    shown = Taken(done._repr_html_())
    assert "Status 3: sh -c" in shown.all
    assert "<b>out" in shown.all
    assert "err" in shown.all
    assert len(shown.drawings) == 1
    killed = nsdemo.run(["sh", "-c", "kill -9 $$"], pid=False, **QUIET)
    assert "Ended by SIGKILL, status -9" in notebook.completed(killed).text


# Mounts, ids, roots, owners


def lines_of_mounts(pid: int | str) -> set[tuple[str, str, str]]:
    """(mount point, device, root) as the file has them."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {(f[4], f[2], f[3]) for f in (line.split() for line in lines)}


def test_the_mounts_differ_where_the_files_do(box: nsdemo.Container[str]) -> None:
    picture = notebook.mounts(box)
    rows = taken(picture).rows
    its, ours = lines_of_mounts(box.pid), lines_of_mounts("self")
    marks = [row[0].split()[0] for row in rows]
    places = [row[1].strip() for row in rows]
    for mark, expected in (("+", its - ours), ("-", ours - its), ("=", ours & its)):
        shown = {place for place, each in zip(places, marks, strict=True) if each == mark}
        # A long path, such as an engine's, ends in the picture with "…".
        cuts = {len(place) - 1 for place in shown if place.endswith("…")}
        assert len(cuts) <= 1
        longest = min(cuts, default=4096)
        points = {point for point, _, _ in expected}
        assert shown == {p if len(p) <= longest + 1 else p[:longest] + "…" for p in points}
    assert "+ only " + f"pid {box.pid}" in [row[0] for row in rows]
    assert picture.text.splitlines()[1].startswith(f"+ {marks.count('+')} only in sleep")


def test_mounts_of_a_process_that_shares_ours_are_the_same() -> None:
    with nsdemo.spawn(["sleep", "1000"], mount=False, mount_proc=False, **QUIET) as box:
        assert not [row for row in taken(notebook.mounts(box)).rows if row[0][0] in "+-"]


def test_what_is_mounted_in_a_mount_is_indented(box: nsdemo.Container[str]) -> None:
    rows = taken(notebook.mounts(box)).rows
    indents = {row[1].strip(): len(row[1]) - len(row[1].lstrip()) for row in rows}
    assert indents["/"] == 0
    assert indents["/proc"] == 2


def test_an_arrow_for_each_line_of_the_map() -> None:
    with nsdemo.spawn(["sleep", "1000"], user=True, **QUIET) as box:
        picture = notebook.id_maps(box)
        maps = taken(picture)
        lines = [Path(f"/proc/{box.pid}/{kind}_map").read_text().split() for kind in ("uid", "gid")]
        assert len(maps.kind("nsd-maps")) == len(maps.kind("nsd-head")) == 2
        assert maps.words("nsd-inner") == [line[0] for line in lines] == ["0", "0"]
        assert [words.split()[0] for words in maps.words("nsd-outer")] == [
            line[1] for line in lines
        ]
        assert f"uid 0 inside → {os.geteuid()}" in picture.text
        assert "setgroups: deny" in maps.said


def test_the_whole_range_is_called_so() -> None:
    text = Path("/proc/self/uid_map").read_text().split()
    shown = taken(notebook.id_maps()).words("nsd-inner")[0]
    assert ("every id" in shown) == (text == ["0", "0", "4294967295"])


def test_chroot_has_two_directories_and_pivot_root_one(rootfs: Path) -> None:
    text = "echo ready; exec sleep 1000"
    with shell(rootfs, text, root_method="chroot") as jail, shell(rootfs, text) as box:
        picture = notebook.roots(jail, box)
        roots = taken(picture)
        assert len(roots.kind("nsd-two")) == len(roots.kind("nsd-process-root")) == 1
        assert len(roots.kind("nsd-one")) == 1
        assert len(roots.kind("nsd-head")) == 1
        outside, inside = os.stat("/").st_ino, os.stat(rootfs).st_ino
        assert f"/\u00a0\u00a0inode {outside}" in roots.all
        assert f"its root is {rootfs}" in roots.said
        assert f"└─ /   inode {outside}: who joins arrives here\n" in picture.text
        assert f"└─ {rootfs}   inode {inside}: the process's /" in picture.text
        before_and_after = taken(notebook.roots(box))
        assert len(before_and_after.kind("nsd-mntns")) == 2
        assert f"you (pid {os.getpid()})" in before_and_after.said


def test_who_owns_what() -> None:
    with nsdemo.spawn(["sleep", "1000"], user=True, **QUIET) as box:
        picture = notebook.ownership(box)
        tree = taken(picture)
        heads = [w for w in tree.words("nsd-owns") if f"(pid {box.pid})" in w]
        made = {inode(box.pid, kind) for kind in ("mount", "uts", "ipc", "pid")}
        assert {re.findall(r"\d{6,}", head)[0] for head in heads} == made
        assert len(tree.kind("nsd-child")) == 1
        assert len(tree.kind("nsd-userns")) == 2
        assert f"└── user {inode(box.pid, 'user')}, made by uid {os.geteuid()}" in picture.text


def test_what_keeps_it_alive() -> None:
    with nsdemo.spawn(["sleep", "1000"], die_with_parent=False, **QUIET) as box:
        # A command line is there a moment after the execve.
        eventually(lambda: Path(f"/proc/{box.pid}/cmdline").read_bytes())
        fd = os.open(f"/proc/{box.pid}/ns/uts", os.O_RDONLY)
        try:
            picture = notebook.keepers(box, "uts")
        finally:
            os.close(fd)
        assert taken(picture).rows == [
            ["process", f"pid {box.pid}", "sleep 1000"],
            ["open descriptor", f"pid {os.getpid()}", f"descriptor {fd}"],
        ]
        assert f"What keeps uts namespace {inode(box.pid, 'uts')} alive" in picture.text
        assert "1 process is in it." in picture.text


# Programs and libraries


def test_the_libraries_are_those_that_a_process_maps() -> None:
    with nsdemo.Rootfs.from_host(["bash", "cat"]) as root:
        picture = notebook.libraries(root)
        tree = taken(picture)
        with nsdemo.spawn(["cat"], root=root, stdin=nsdemo.PIPE, stdout=nsdemo.PIPE) as cat:
            assert cat.stdin is not None
            assert cat.stdout is not None
            cat.stdin.write(b"started\n")
            cat.stdin.flush()
            cat.stdout.readline()
            maps = Path(f"/proc/{cat.pid}/maps").read_text()
        mapped = {
            line.split()[5].removeprefix(str(root.path))
            for line in maps.splitlines()
            if ".so" in line
        }
        assert len(mapped) >= 2
        for path in mapped:
            assert any(name.endswith(f" {path}") for name in tree.words("nsd-name")), path
        assert (
            len([name for name in tree.words("nsd-name") if name.startswith(("bash", "cat"))]) == 2
        )
        assert "nothing is missing" in picture.text
        assert Taken(root._repr_html_()).drawings


def test_a_library_that_is_not_there_is_missing() -> None:
    with nsdemo.Rootfs.from_host(["bash"]) as root:
        for name in root.files:
            if os.path.basename(name).startswith("libc.so"):
                os.remove(root.path + name)
        picture = notebook.libraries(root)
        assert "libc.so.6: MISSING" in picture.text
        assert len(taken(picture).kind("nsd-missing")) >= 1
        with pytest.raises(FileNotFoundError):
            nsdemo.chroot_run(root, ["/no/such/program"], **QUIET)


def test_a_script_needs_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hello").write_text("#!/bin/absent -x\n")
    assert "/bin/absent: MISSING (interpreter)" in notebook.libraries(tmp_path).text


def test_a_static_program_needs_nothing(rootfs: Path) -> None:
    picture = notebook.libraries(rootfs)
    assert "1 program; nothing is missing." in picture.text
    assert "also called" in picture.text
    assert not taken(picture).kind("nsd-library")


# What shows itself


def test_the_doctors_table() -> None:
    findings = nsdemo.doctor()
    rows = Taken(findings._repr_html_()).rows
    assert [(row[0], row[1]) for row in rows] == [
        (each.name, "yes" if each.works else "no") for each in findings
    ]


def test_a_container_shows_its_card_and_its_processes(box: nsdemo.Container[str]) -> None:
    shown = Taken(box._repr_html_())
    assert len(shown.drawings) == 2
    assert f"Container, pid {box.pid}: sh -c '" in shown.all


def test_one_that_has_ended_says_so() -> None:
    box = nsdemo.spawn(["sh", "-c", "exit 7"], **QUIET)
    box.wait()
    assert "This container has ended (status 7): sh -c 'exit 7'" in Taken(box._repr_html_()).all
    for function in (notebook.card, notebook.processes, notebook.mounts, notebook.id_maps):
        assert taken(function(box)).all.endswith("the container has ended (status 7).")
    for picture in (notebook.roots(box), notebook.ownership(box), notebook.keepers(box, "uts")):
        assert picture.text == "the container has ended (status 7)."
    assert notebook.matrix(box).text == "the container has ended (status 7)."
    assert f"{len(box.trace)} steps" in notebook.timeline(box).text


def test_ipython_shows_an_error_below_its_traceback(tmp_path: Path) -> None:
    body = """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from nsdemo import notebook
    shell = InteractiveShell.instance()
    notebook.show_errors(shell)
    with capture_output() as captured:
        done = shell.run_cell("import nsdemo; nsdemo.run(['true'], root='/proc/self/fdinfo')")
    with capture_output() as plain:
        other = shell.run_cell("1 / 0")
    report(inner="_launch" in captured.stdout,
           html=[output.data["text/html"] for output in captured.outputs], said=captured.stdout,
           error=type(done.error_in_exec).__name__, other=plain.stdout, shown=len(plain.outputs))
    """
    done = script(body, env=os.environ | {"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)})
    found = done.report
    (html,) = found["html"]
    assert [row[0] for row in Taken(html).rows][:2] == ["step", "cause"]
    assert "NamespaceError" in found["said"]
    assert not found["inner"], "the traceback ends where the learner's own line does"
    assert found["error"] == "NamespaceError"
    assert "ZeroDivisionError" in found["other"]
    assert found["shown"] == 0


# Hostile names

EVIL = "<script>alert('&')</script>\x1b[2J\u202egnp.exe\u2066"


def test_what_a_process_calls_itself_is_escaped(rootfs: Path) -> None:
    text = "printf '<b>&\\033[2J\\n\\\\' > /proc/$$/comm; echo ready; read line"
    with nsdemo.spawn(
        ["sh", "-c", 'eval "$DO"', EVIL],
        root=rootfs,
        env={"DO": text, "PATH": "/bin"},
        stdin=nsdemo.PIPE,
        stdout=nsdemo.PIPE,
        text=True,
    ) as box:
        assert box.stdout is not None
        assert box.stdout.readline() == "ready\n"
        for picture in (
            notebook.processes(box),
            notebook.card(box),
            notebook.mounts(box),
            notebook.ownership(box),
            notebook.roots(box),
            notebook.id_maps(box),
            notebook.keepers(box, "uts"),
            notebook.matrix({EVIL: box}),
            notebook.timeline(box),
        ):
            taken(picture)
            assert "<b>" not in picture.html
            assert "<script" not in picture.html
            assert "\x1b" not in picture.text
            assert "\u202e" not in picture.text
        assert "<b>&\\x1b[2J" in notebook.card(box).text
        assert "<script>alert('&')</script>\\x1b[2J\\u202egnp" in notebook.processes(box).text
        Taken(box._repr_html_())


def test_what_is_mounted_is_escaped(rootfs: Path) -> None:
    text = """
    mount -t tmpfs x /tmp; cd /tmp; name="$(printf '<i>\\033\\342\\200\\256\\377')"; mkdir "$name"
    mount -t tmpfs '</td><script>' "$name"; echo ready; exec sleep 1000
    """
    with shell(rootfs, text) as box:
        picture = notebook.mounts(box)
        taken(picture)
        assert "<script" not in picture.html
        assert "/tmp/<i>\\x1b\\u202e\\udcff" in picture.text


def test_what_a_command_prints_is_escaped() -> None:
    done = nsdemo.run(["printf", r"<b>\033[31m\377\000end"], **QUIET, capture_output=True)
    shown = Taken(done._repr_html_())
    assert r"<b>\x1b[31m\xff\x00end" in shown.all
    flood = nsdemo.CompletedProcess(["x" * 10**6], 0, "<" * 10**7, None)
    assert len(flood._repr_html_()) < 50_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\u202eabc\u2069", r"\u202eabc\u2069"),
        ("\udcff", r"\udcff"),
        ("e\u0301\u0301\u0301", "e\u0301\u0301" + r"\u0301"),
        ("\u00e9\u4e2d\u05d0", "\u00e9\u4e2d\u05d0"),
        ("x" * 300, "x" * 199 + "…"),
        ("\u4e2d" * 300, "\u4e2d" * 99 + "…"),
        ("\x00" * 10**6, r"\x00" * 49 + "…"),
    ],
)
def test_text_is_made_harmless(text: str, shown: str) -> None:
    from nsdemo.notebook._picture import clean, columns

    assert clean(text) == shown
    assert columns(shown) <= 200


def test_a_file_that_only_looks_like_a_program_confuses_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    real = Path("/proc/self/exe").read_bytes()[:4096]
    (folder / "short").write_bytes(real[:60])
    (folder / "cut").write_bytes(real)
    (folder / "wild").write_bytes(real[:32] + b"\xff" * 200)
    (folder / "many").write_bytes(real[:54] + b"\x01\x00\xff\xff" + real[58:])
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "loop").symlink_to("loop")
    (folder / "script").write_bytes(b"#!" + b"\xff<" * 5000)
    os.mkfifo(folder / "pipe")
    os.mkdir(folder / "<b>")
    picture = notebook.libraries(tmp_path)
    taken(picture)
    assert len(picture.html) < 50_000


# A tree that changes, large ones, other people's


def test_a_tree_that_changes_is_drawn(rootfs: Path) -> None:
    text = f"{NULL}; echo ready; while :; do sleep 0.02 & (true) & (true); sleep 0.01; done"
    with shell(rootfs, text) as box:
        for _ in range(25):
            tree = taken(notebook.processes(box))
            assert "1" in tree.words("nsd-inner")
            Taken(box._repr_html_())


def test_it_ends_while_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsdemo import kernel

    box = nsdemo.spawn(["sleep", "1000"], **QUIET)
    real = kernel.pid_of

    def ends_now(target: Any = None) -> int:
        pid = real(target)
        box.stop()
        return pid

    monkeypatch.setattr(kernel, "pid_of", ends_now)
    text = taken(notebook.processes(box)).all
    assert "ended" in text


def weigh(name: str, draw: Any) -> int:
    """How large a picture is; how long it took is printed, not judged: the machine is shared."""
    start = time.perf_counter()
    size = len(draw().encode())
    print(f"{name}: {(time.perf_counter() - start) * 1000:.0f} ms, {size / 1000:.0f} KB")
    return size


def test_200_processes_are_no_burden(rootfs: Path) -> None:
    loop = "i=0; while [ $i -lt 199 ]; do sleep 1000 & i=$((i+1)); done"
    with shell(rootfs, f"{NULL}; {loop}; echo ready; exec sleep 1000") as box:
        assert len(taken(notebook.processes(box)).kind("nsd-inner")) == 200
        assert weigh("200 processes", lambda: notebook.processes(box)._repr_html_()) < 300_000
        assert weigh("their container", box._repr_html_) < 300_000
        assert (
            weigh("what they keep alive", lambda: notebook.keepers(box, "uts")._repr_html_())
            < 300_000
        )


def test_500_mounts_are_no_burden(rootfs: Path) -> None:
    text = """
    mount -t tmpfs x /tmp; i=0
    while [ $i -lt 500 ]; do mkdir /tmp/$i; mount -t tmpfs '<&">' /tmp/$i; i=$((i+1)); done
    echo ready; exec sleep 1000
    """
    with shell(rootfs, text) as box:
        picture = notebook.mounts(box)
        assert sum(row[0].startswith("+") for row in taken(picture).rows) >= 500
        assert weigh("500 mounts", lambda: notebook.mounts(box)._repr_html_()) < 300_000
        assert weigh("their container", box._repr_html_) < 300_000


def test_more_than_can_be_looked_at_is_counted() -> None:
    step = nsdemo.Step("setsid", (), 0, 0, 1, 1, 1)
    assert "800 more are not shown" in notebook.timeline((step,) * 1000).text
    plan = nsdemo.Plan()
    for _ in range(250):
        plan = plan.setsid()
    assert "# 50 more steps are not shown" in notebook.plan(plan).text
    assert len(Taken(plan._repr_html_()).rows) == 200


@pytest.mark.skipif(not IS_ROOT, reason="only root has what an ordinary user may not look at")
def test_a_process_that_is_not_ours_is_no_traceback(ordinary_users_may: None) -> None:
    body = """
    from nsdemo import notebook
    pid = int(sys.argv[1])
    said = [picture.text for picture in (
        notebook.card(pid), notebook.processes(pid), notebook.roots(pid), notebook.matrix(one=pid),
        notebook.ownership(pid), notebook.keepers(pid, "uts"))]
    report(said=said)
    """
    for text in script(body, str(os.getpid()), ordinary=True).report["said"]:
        assert f"process {os.getpid()} belongs to uid 0; you are uid 64321" in text
        assert "only its owner, or root, may look at its namespaces" in text


def test_a_number_that_is_nobodys(box: nsdemo.Container[str]) -> None:
    number = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert (
        notebook.card(number).text == f"there is no process {number}: it has ended, or never was."
    )


@pytest.mark.parametrize("ordinary", [False, True])
def test_a_terminal_that_is_not_utf_8(
    rootfs: Path, ordinary: bool, ordinary_users_may: None
) -> None:
    body = """
    from nsdemo import notebook
    box = nsdemo.spawn(["sh", "-c", "sleep 1000; true", "\u00e9"], root=sys.argv[1], **QUIET)
    for picture in (notebook.card(box), notebook.processes(box), notebook.timeline(box),
                    notebook.plan(nsdemo.spawn(["true"], dry_run=True)), notebook.mounts(box),
                    notebook.id_maps(box), notebook.roots(box), notebook.ownership(box),
                    notebook.keepers(box, "uts"), notebook.matrix(box),
                    notebook.power(box), notebook.libraries(sys.argv[1])):
        print(picture)
        print(repr(picture), file=sys.stderr)
    box.stop()
    """
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = script(body, str(rootfs), ordinary=ordinary, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert re.search(r"^ *\d+ +1 +`- sh -c sleep 1000; true \\xe9$", done.stdout, re.MULTILINE)
    assert done.stdout == done.stderr


# How it looks, without a browser


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_stands_out_on_light_and_dark(
    failure: nsdemo.NamespaceError, rootfs: Path
) -> None:
    with shell(rootfs, TREE) as box:
        html = "".join(
            picture._repr_html_()
            for picture in (
                notebook.card(box),
                notebook.processes(box),
                notebook.timeline(failure),
                notebook.roots(box),
                notebook.id_maps(box),
            )
        )
    colours = set(re.findall(r'(?:stroke|fill)="(#[0-9a-f]{6})"', html))
    assert len(colours) >= 4
    for colour in colours:
        for ground in ("#ffffff", "#111111"):
            high, low = sorted((luminance(colour), luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, ground)


def test_a_picture_needs_nothing_from_elsewhere(box: nsdemo.Container[str]) -> None:
    html = box._repr_html_() + notebook.matrix(box)._repr_html_()
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|javascript:|<script", html
    )
    assert "@media print" in html
    assert "var(--jp-content-font-color1,inherit)" in html


def test_a_dollar_is_no_formula(box: nsdemo.Container[str]) -> None:
    kinds = Taken(box._repr_html_()).root.get("class", "").split()
    assert {"tex2jax_ignore", "mathjax_ignore"} <= set(kinds)


def test_ids_are_unique_on_a_page(box: nsdemo.Container[str], rootfs: Path) -> None:
    html = (
        box._repr_html_() + notebook.roots(box)._repr_html_() + notebook.timeline(box)._repr_html_()
    )
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids)) == 8


# Wrong arguments


def test_wrong_arguments_are_refused(box: nsdemo.Container[str]) -> None:
    with pytest.raises(TypeError, match="see matrix"):
        notebook.card(box, box, box)
    with pytest.raises(TypeError, match="1 to 8 targets, not 0"):
        notebook.roots()
    with pytest.raises(TypeError, match="needs a container"):
        notebook.matrix()
    for wrong in (None, "abc", 3, [1], box.args):
        with pytest.raises(TypeError, match="a timeline is made from a trace"):
            notebook.timeline(wrong)
    with pytest.raises(TypeError, match="shows a Plan, not str"):
        notebook.plan("ls")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no namespace 'mnt'"):
        notebook.keepers(box, "mnt")
    for function in (notebook.card, notebook.processes, notebook.mounts, notebook.id_maps):
        with pytest.raises(TypeError, match="a target is a Container, a pid"):
            function(True)
    assert notebook.timeline(()).text == "This trace is empty: no step was performed."
    assert "No such file" in notebook.libraries("/no/such/root").text
    assert "There is no program in" in notebook.libraries("/proc/self/fdinfo").text
