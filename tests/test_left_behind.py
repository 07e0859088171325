"""What failures leave behind: nothing. Every call into the system fails once, in turn.

Of the calls that open something, each is made to fail, by what they say themselves and by
Ctrl-C; and all of them run with fewer and fewer descriptors left.
"""

from __future__ import annotations

import pytest
from support import script

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

OPERATIONS = """
    import nsdemo._request.terminal, nsdemo._launch.changes, nsdemo._launch.interact
    import nsdemo._facts.targets, nsdemo._launch.adopted, nsdemo._request.stdio
    import nsdemo.notebook._stream, nsdemo._facts.inside, nsdemo._request.pins
    import codecs, fcntl, select, shutil, socket, stat, termios, tty

    def tty_spawn():
        with nsdemo.spawn(["true"], tty=True) as box:
            box.communicate(timeout=30)

    def pipes():
        with nsdemo.spawn(["cat"], stdin=-1, stdout=-1, stderr=-1) as box:
            box.communicate(b"x", timeout=30)

    def layers():
        with nsdemo.spawn(["touch", "/bin/x"], root=ROOT, overlay=True, **QUIET) as box:
            box.wait()
        box.changes()

    def ways():
        way = nsdemo._launch.changes._Way(DEEP, DEEP, b"")
        try:
            for _ in range(3):
                assert way.enter(b"d", True)
        finally:
            way.close()

    def relay():
        ours, theirs = os.openpty()
        os.dup2(theirs, 0)
        try:
            with nsdemo.spawn(["true"], tty=True) as box:
                box.interact(30)
        finally:
            os.close(ours)
            os.close(theirs)
            os.dup2(NULL, 0)

    def targets():
        nsdemo._facts.targets.Resolved("/proc/self/ns/net").owner_namespace().close()
        with open("/proc/self/ns/net") as file:
            nsdemo._facts.targets.Resolved(file).close()
        with contextlib.closing(PidFile()) as file:
            nsdemo._facts.targets.Resolved(file)

    class PidFile:
        def __init__(self):
            self.fd = os.pidfd_open(BOX.pid)
        def fileno(self):
            return self.fd
        def close(self):
            os.close(self.fd)

    def adopted():
        nsdemo.Container.adopt(BOX.pid)
        with contextlib.closing(PidFile()) as file:
            nsdemo.Container.adopt(file)

    def run():
        nsdemo.run(["cat"], input=b"x", capture_output=True)

    def roots():
        nsdemo.Rootfs().remove()
        made = nsdemo.Rootfs(PLACE + "/dest")
        try:
            made.remove()
        except BaseException:
            made.remove()  # which may be tried again
            raise

    def cells():
        with nsdemo.notebook._stream.Pipes():
            pass

    def inside():
        os.close(nsdemo._facts.inside.open_file("/", "etc/passwd"))

    OWN = [tty_spawn, pipes, layers, ways, relay, targets, adopted, run, roots, cells, inside]
    warnings.simplefilter("error")
    PLACE = tempfile.mkdtemp()
    tempfile.tempdir = PLACE
    ROOT = nsdemo.Rootfs.busybox()
    BOX = nsdemo.spawn(["sleep", "600"], **QUIET)
    os.makedirs(PLACE + "/top/d/d/d")
    DEEP = os.open(PLACE + "/top", os.O_RDONLY)
    NULL = os.open(os.devnull, os.O_RDWR)
    os.dup2(NULL, 0)
    unraisable = []
    sys.unraisablehook = lambda found: unraisable.append(repr(found.exc_value))

    def held():
        found = {fd: link for fd, link in descriptors().items() if "/proc/" not in link}
        blocking = {fd: os.get_blocking(fd) for fd in found}
        return found, blocking, sorted(os.listdir(PLACE)), children()

    def check(name, number, before, problems):
        after = held()
        if after != before:  # is it only waiting for the garbage to be collected?
            gc.collect()
            after = held()
        if after != before:
            problems.append([name, number, str([x for x in zip(before, after) if x[0] != x[1]])])
            for fd in after[0].keys() - before[0].keys():
                os.close(fd)
        problems.extend([name, number, text] for text in unraisable if "never removed" not in text)
        unraisable.clear()
"""


def test_every_call_fails_once() -> None:
    body = (
        OPERATIONS
        + """
    CLOSES = {"close", "closedir", "munmap", "__exit__", "rmdir", "unlink", "kill", "_exit",
              "getpid", "remove", "detach", "dup2", "restore", "tcsetpgrp", "pthread_sigmask"}
    MODULES = {"posix", "fcntl", "termios", "_socket", "io", "_io", "select", "_signal"}

    class Failing:
        def __init__(self, at, error):
            self.at, self.error, self.seen, self.name = at, error, 0, ""

        def __call__(self, frame, event, function):
            if event != "c_call" or "nsdemo" not in frame.f_code.co_filename:
                return
            name = function.__name__
            module = getattr(function, "__module__", None) or type(function.__self__).__module__
            if module not in MODULES or name in CLOSES:
                return
            self.seen += 1
            if self.seen == self.at:
                self.name = name
                raise self.error

    problems, failures = [], {}
    gc.disable()
    for operation in OWN:
        operation()
        for error in (OSError(errno.EIO, "by the test"), KeyboardInterrupt("by the test")):
            at = 0
            while True:
                at += 1
                before = held()
                failing = Failing(at, error)
                sys.setprofile(failing)
                try:
                    operation()
                except (OSError, KeyboardInterrupt, ValueError, AssertionError) as caught:
                    caught = None
                finally:
                    sys.setprofile(None)
                error.__traceback__ = error.__context__ = error.__cause__ = None
                check(f"{operation.__name__}: {failing.name}", at, before, problems)
                if not failing.name:
                    break
                failures[operation.__name__] = at
    BOX.stop()
    ROOT.remove()
    shutil.rmtree(PLACE)
    report(problems=problems, failures=failures)
    """
    )
    found = script(body, timeout=120).report
    assert found["problems"] == [], "\n".join(map(str, found["problems"]))
    assert min(found["failures"].values()) >= 3, found["failures"]


def test_with_fewer_and_fewer_descriptors_left() -> None:
    body = (
        OPERATIONS
        + """
    problems, refused = [], 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    OWN.remove(roots)  # removing takes some itself
    for operation in OWN:
        operation()
        for left in range(14):
            before = held()
            taken = []
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(NULL))
            for fd in taken[len(taken) - left:]:
                os.close(fd)
            try:
                operation()
            except (OSError, RuntimeError, subprocess.SubprocessError, ImportError) as error:
                refused += 1
            finally:
                for fd in taken[:len(taken) - left]:
                    os.close(fd)
            check(operation.__name__, left, before, problems)
    BOX.stop()
    ROOT.remove()
    shutil.rmtree(PLACE)
    report(problems=problems, refused=refused)
    """
    )
    found = script(body, timeout=120).report
    assert found["problems"] == [], "\n".join(map(str, found["problems"]))
    assert found["refused"] > 20
