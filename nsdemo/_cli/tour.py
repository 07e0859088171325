"""``nsdemo tour``: the three chapters on this machine's own programs, with what really happened.

Every number printed is read from the kernel while the tour runs: pids, inodes, system calls and
the time they took. Nothing is left behind, and the tour looks to make sure.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .._api import chroot_run, enter, run, spawn
from .._errors import NamespaceError
from .._facts.processes import mounts
from .._facts.targets import namespaces
from .._launch.container import Container
from .._plan.plan import Plan
from .._request.stdio import DEVNULL, PIPE, STDOUT
from .._request.values import working_directory
from ..rootfs import Rootfs
from .lsns import list_namespaces
from .screen import BOLD, DIM, GREEN, Page

# ps as a shell script, for roots that have none: every process has a directory in /proc.
_PS = """\
cd /proc
for n in [0-9]*
do read pid name rest < $n/stat; echo $pid $name
done
"""
_COUNT = "set -- /proc/[0-9]*; echo $#"


class Tour:
    """The three chapters, in the order in which they need one another."""

    def __init__(self, page: Page, stack: ExitStack) -> None:
        self.page = page
        self.stack = stack
        self.shell = "bash" if shutil.which("bash") else "sh"
        self.programs = [self.shell, *(name for name in ("cat", "ls") if shutil.which(name))]
        self.ours = namespaces()
        self.host_name = os.uname().nodename
        self.root: Rootfs
        self.box: Container[Any] | None = None
        self.refused = False

    def run(self) -> None:
        page = self.page
        page.line(page.paint("nsdemo tour: what a container is made of", BOLD))
        who = "root" if os.geteuid() == 0 else f"an ordinary user (uid {os.geteuid()})"
        if os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split()[1:2] != ["0"]:
            who = "root in a user namespace, and an ordinary user outside it"
        page.say(
            f"Three chapters on this machine's own programs. You are {who}; nothing of yours is "
            "changed, and nothing is left behind. Lines with >>> are Python, as you would type it."
        )
        self.build_root()
        show = self._show("/test.txt")
        try:
            self.chapter1()
        except NamespaceError as error:
            self.explain_refusal(error, chroot_run(self.root, show, dry_run=True))
        try:
            self.chapter2()
            self.chapter3()
        except NamespaceError as error:
            self.explain_refusal(error, spawn([self.shell], root=self.root, dry_run=True))
        if self.box is None:
            self.only_ours()
        self.clean_up()
        self.what_next()

    # -- chapter 1 ---------------------------------------------------------------------

    def build_root(self) -> None:
        page = self.page
        page.heading("1  Another / (chroot)")
        page.say(
            'Every process has a directory that it calls "/". The kernel lets a process have '
            "another one. To be of use it needs programs, and the libraries that they load:"
        )
        self.root = self.stack.enter_context(Rootfs.from_host(self.programs))
        Path(self.root, "test.txt").write_text("Hello\n")
        page.root = self.root.path
        names = ", ".join(f'"{name}"' for name in self.programs)
        page.code(
            f"root = nsdemo.Rootfs.from_host([{names}])",
            'pathlib.Path(root, "test.txt").write_text("Hello\\n")',
        )
        sizes = {}
        for name in self.root.files:
            path = Path(self.root.path + name)
            if not path.is_symlink():
                sizes[name] = path.stat().st_size
        for name, size in sizes.items():
            page.line(f"    {size / 1024:7,.0f} KB  {name}")
        links = len(self.root.files) - len(sizes)
        page.say(
            f"That is {len(sizes)} files, {sum(sizes.values()) / 1024:,.0f} KB together, and "
            f"{links} symbolic links, copied to {self.root.path}. Below, ROOT stands for that name."
        )

    def chapter1(self) -> None:
        page, shell = self.page, self.shell
        listing = self._list("/")
        page.code(f"nsdemo.chroot_run(root, {_code(listing)})")
        result = chroot_run(self.root, listing, stdin=DEVNULL, **_CAPTURE)
        page.output(result.stdout)
        show = self._show("/test.txt")
        page.code(f"result = nsdemo.chroot_run(root, {_code(show)})")
        result = chroot_run(self.root, show, stdin=DEVNULL, **_CAPTURE)
        page.output(result.stdout)
        page.say("What the kernel did, from result.trace: the system calls and the time they took.")
        last = result.trace[-1].pid
        page.trace(result.trace, {last: f"which becomes {show[0]}"})
        page.notice(
            'the call that matters is chroot. After it, every path that begins with "/" begins in '
            "ROOT: the file is ROOT/test.txt to you, and /test.txt inside."
        )
        # A command that waits, so that it can be looked at from outside.
        plan = chroot_run(self.root, [shell], dry_run=True, stdin=PIPE, stdout=PIPE, text=True)
        with plan.start() as jailed:
            inside = _ask(jailed, "echo $$")
            theirs = jailed.namespaces
            shared = [name for name, identity in self.ours.items() if theirs[name] == identity]
        page.say(
            f"It is no jail, though. A shell started like this saw itself as process {inside}, and "
            f"we saw it as {jailed.pid}: it lived among our processes. Of its {len(self.ours)} "
            f"namespaces it shared {len(shared)} with us ({', '.join(shared)}). And a process "
            "with root's power climbs out of a chroot with a few system calls (chroot(2) shows "
            "how). Chapter 2 shuts that door."
        )

    # -- chapter 2 ---------------------------------------------------------------------

    def chapter2(self) -> None:
        page = self.page
        page.heading("2  A container (unshare, pivot_root)")
        page.say(
            "Which processes are there, which mounts, which host name? The kernel answers each "
            "process from the namespaces it is in, one of each kind. A container is a process in "
            "new ones. Here is one, with a host name and a / of its own:"
        )
        page.code(
            f'box = nsdemo.spawn(["{self.shell}"], root=root, hostname="boxy",',
            "|                   stdin=nsdemo.PIPE, stdout=nsdemo.PIPE, text=True)",
        )
        box = self.box = self.stack.enter_context(
            spawn(
                [self.shell],
                root=self.root,
                hostname="boxy",
                stdin=PIPE,
                stdout=PIPE,
                text=True,
            )
        )
        page.say("The same process, asked inside and seen from outside:")
        inner = _ask(box, "echo $$")
        name = _ask(box, "read -r name < /proc/sys/kernel/hostname; echo $name")
        rows = [
            ("", "inside", "outside"),
            ("process id", inner, str(box.pid)),
            ("host name", name, os.uname().nodename),
            ("processes in /proc", _ask(box, _COUNT), str(_processes())),
        ]
        uids = _ask(
            box, "while read -r a b c; do [ $a = Uid: ] && echo $b; done < /proc/self/status"
        )
        rows.append(("user id", uids, str(Path(f"/proc/{box.pid}").stat().st_uid)))
        page.line()
        for label, left, right in rows:
            page.line(f"    {label:<20}{left:<10}{right}")
        self.namespace_table(box)
        page.say("How it was made, from box.trace:")
        page.trace(box.trace, {box.pid: f"which becomes {self.shell}, number 1 inside"})
        page.notice(
            "two processes. A new pid namespace takes in only children born after it was made, "
            f"not the process that asked: hence the clone. Its result, {box.pid}, is the "
            "container. pivot_root let go of the old root: nothing is left to climb out to."
        )
        self.what_breaks()

    def namespace_table(self, box: Container[Any]) -> None:
        page = self.page
        page.say("Each namespace has an inode number; the same number is the same namespace.")
        page.code("box.namespaces, nsdemo.namespaces()")
        page.line(f"    {'':<8}  {'inside':<12}outside")
        theirs = box.namespaces
        for name, identity in self.ours.items():
            same = theirs[name] == identity
            word = page.paint("shared", DIM) if same else page.paint("isolated", GREEN)
            page.line(f"    {name:<8}  {theirs[name][1]:<12}{identity[1]:<12}{word}")
        if theirs["user"] != self.ours["user"]:
            page.say(
                "The user namespace is new, too, because only root may make the others: in it you "
                "are root, and to everything outside you are who you were."
            )

    def what_breaks(self) -> None:
        page, shell = self.page, self.shell
        page.say("What breaks without the flags? First, without --fork:")
        script = "/bin/cat /test.txt; /bin/cat /test.txt; :"
        if "cat" not in self.programs:
            script = "(echo Hello); (echo Hello); :"
        command = [shell, "-c", script]
        page.code(
            f"nsdemo.run({_code(command)},", "|           root=root, fork=False, mount_proc=False)"
        )
        result = run(
            command,
            root=self.root,
            fork=False,
            mount_proc=False,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
        )
        page.output(result.stdout)
        page.notice(
            "memory is not the problem. The shell stayed outside the new pid namespace; its first "
            "child became number 1 in there, and ended. After that the kernel starts nobody in it."
        )
        page.say("Then, without --mount-proc, and without a root of its own. Processes in /proc:")
        page.code(f'count = ["{shell}", "-c", {_quote(_COUNT)}]')
        for keyword in ("mount_proc=False", "mount_proc=True"):
            page.code(f"nsdemo.run(count, {keyword})")
            result = run(
                [shell, "-c", _COUNT],
                mount_proc=keyword.endswith("True"),
                stdin=DEVNULL,
                **_CAPTURE,
            )
            page.output(result.stdout)
        page.notice(
            "a pid namespace hides nothing by itself. ps reads /proc, and shows the namespace in "
            "which that /proc was mounted."
        )

    # -- chapter 3 ---------------------------------------------------------------------

    def chapter3(self) -> None:
        page, box = self.page, self.box
        assert box is not None
        page.heading("3  Join a running container (setns)")
        page.say(
            f"Process {box.pid} is still there. To run something in its container, a process "
            "joins its namespaces; docker exec does the same. Who is inside?"
        )
        Path(self.root, "ps.sh").write_text(_PS)
        first, *others = _PS.splitlines()
        page.code(
            f'pathlib.Path(root, "ps.sh").write_text("""{first}',
            *(f"|{line}" for line in others),
            '|""")',
            f'nsdemo.enter(box, ["{self.shell}", "/ps.sh"])',
        )
        result = enter(box, [self.shell, "/ps.sh"], stdin=DEVNULL, **_CAPTURE)
        page.output(result.stdout)
        last = result.trace[-1].pid
        page.trace(result.trace, {last: "which becomes the command"})
        page.notice(
            "number 1 is the container's shell; the other line is the command that we sent in. "
            f"Out here they are {box.pid} and {last}."
        )
        show = self._show("/test.txt")
        page.say("The command line that does the same, from a plan that is not run:")
        plan = enter(box, show, dry_run=True)
        page.code(f"print(nsdemo.enter(box, {_code(show)}, dry_run=True))")
        page.equals(plan)

    # -- the end -----------------------------------------------------------------------

    def clean_up(self) -> None:
        page, box = self.page, self.box
        page.heading("What is left")
        page.code(*(["box.stop()"] if box else []), "root.remove()")
        facts = []
        if box is not None:
            new = {identity[1] for identity in box.namespaces.values()}
            new -= {identity[1] for identity in self.ours.values()}
            code = box.stop()
            until = time.monotonic() + 1  # the helper that watched over it ends by itself
            while (left := _members(new)) and time.monotonic() < until:
                time.sleep(0.005)
            facts.append(
                (
                    "the container",
                    f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended, {code}",
                )
            )
            facts.append(("processes in its namespaces", str(left)))
        self.root.remove()
        facts += [
            ("ROOT", "still there" if Path(self.root).exists() else "removed"),
            ("mounts in ROOT", str(_mounts(self.page.root))),
            ("host name", f"{self.host_name} before, {os.uname().nodename} now"),
        ]
        for label, value in facts:
            page.line(f"    {label + ':':<30}{value}")

    def what_next(self) -> None:
        page = self.page
        us = _our_name()
        if self.refused:
            page.say("Next, a look at the namespaces that are here already. Type:")
            page.line()
            page.line(f"    {us} lsns")
            return
        look = "ps -ef" if shutil.which("ps") else "ls /proc"
        page.say(
            "Next, a shell of your own in new namespaces, on this machine's files. Inside, try "
            f"echo $$, hostname and {look}; exit leaves it. Type:"
        )
        page.line()
        page.line(page.paint(f"    {us} spawn --hostname boxy", BOLD))

    # -- where it is refused -----------------------------------------------------------

    def explain_refusal(self, error: NamespaceError, plan: Plan) -> None:
        """Say who forbids it, once, and show what would have been asked."""
        page = self.page
        page.say(f"This machine refuses: {error.strerror}.")
        if not self.refused:
            self.refused = True
            for note in getattr(error, "__notes__", ()):
                page.say(f"Hint: {note}")
            self.ask_doctor()
        page.say("So only the plan can be shown: what would be asked of the kernel, in order.")
        page.line()
        page.plan(plan)

    def ask_doctor(self) -> None:
        """What is possible here, what is not, and who forbids it."""
        try:
            from .._doctor import doctor

            findings = list(doctor())
        except (ImportError, OSError):
            return
        forbidden: dict[str, list[str]] = {}
        for finding in findings:
            if not finding.works:
                forbidden.setdefault(finding.forbidden_by or finding.detail, []).append(
                    finding.name
                )
        self.page.say("What nsdemo doctor finds:")
        for who, names in forbidden.items():
            self.page.say(f"Not possible: {', '.join(names)}. Forbidden by: {who}.")
        works = ", ".join(finding.name for finding in findings if finding.works)
        self.page.say(f"Possible: {works or 'nothing of it'}.")
        for advice in dict.fromkeys(finding.advice for finding in findings if finding.advice):
            self.page.say(f"Advice: {advice}")

    def only_ours(self) -> None:
        """Chapters 2 and 3 where there is no container: our own namespaces."""
        page = self.page
        page.say(
            "Looking is not forbidden. These are the namespaces that this process is in, by inode "
            "number, from /proc/self/ns:"
        )
        page.code("nsdemo.namespaces()")
        for name, (_, inode) in self.ours.items():
            page.line(f"    {name:<8}  {inode}")
        page.say("Chapter 3 joins a running container; without one there is nothing to join.")

    def _list(self, directory: str) -> list[str]:
        if "ls" in self.programs:
            return ["ls", "-C", directory]
        return [self.shell, "-c", f"cd {directory}; echo *"]

    def _show(self, path: str) -> list[str]:
        if "cat" in self.programs:
            return ["cat", path]
        return [self.shell, "-c", f'read -r line < {path}; echo "$line"']


_CAPTURE: dict[str, Any] = {"stdout": PIPE, "stderr": STDOUT, "text": True}


def _ask(box: Container[Any], line: str) -> str:
    """Type a line into the container's shell and read the line that it answers."""
    assert box.stdin is not None
    assert box.stdout is not None
    box.stdin.write(f"{line}\n")
    box.stdin.flush()
    answer: str = box.stdout.readline()
    return answer.strip()


def _quote(text: str) -> str:
    return f"'{text}'" if '"' in text else f'"{text}"'


def _code(args: Sequence[str]) -> str:
    return "[" + ", ".join(_quote(arg) for arg in args) + "]"


def _members(inodes: set[int]) -> int:
    return sum(len(row.members) for row in list_namespaces() if row.inode in inodes)


def _mounts(root: str) -> int:
    return sum(mount.point.startswith(root) for mount in mounts())


def _processes() -> int:
    return sum(entry.name.isdecimal() for entry in os.scandir("/proc"))


def _our_name() -> str:
    """How the caller started us, so that the next command works when it is pasted."""
    if Path(sys.argv[0]).name == "__main__.py":
        python = Path(sys.executable).name
        found = shutil.which(python)
        same = found is not None and Path(found).absolute() == Path(sys.executable).absolute()
        return f"{python if same else _from_here(sys.executable)} -m nsdemo"
    program = Path(sys.argv[0])
    found = shutil.which(program.name)
    same = found is not None and Path(found).absolute() == program.absolute()
    return program.name if same else _from_here(str(program))


def _from_here(program: str) -> str:
    """A path as short as it can be pasted: relative if it lies under the working directory."""
    if not (folder := working_directory()):
        return program
    here = folder.rstrip("/") + "/"
    return program.removeprefix(here) if program.count("/") > here.count("/") else program


def main() -> int:
    """Run the tour on standard output and return the exit status."""
    with ExitStack() as stack:
        Tour(Page(), stack).run()
    return 0
