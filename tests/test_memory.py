"""What a process keeps: descriptors that the command must not have, files, and captured output."""

from __future__ import annotations

import sys

import pytest
from support import refusing, script

import nsdemo

pytestmark = pytest.mark.usefixtures("ordinary_users_may")


# -- descriptors where close_range(2) is refused ---------------------------------------------------

HIGH = """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    null = os.open(os.devnull, os.O_RDONLY)
    top = min(most, 200_000) - 1
    for fd in (40, 1023, 1024, 4096, top - 1, top):
        if fd < most:
            os.dup2(null, fd, inheritable=True)
    lowered = {lowered}
    if lowered:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowered, lowered))
    quiet = dict(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, text=True)
    look = ["sh", "-c", "echo /proc/self/fd/*"]  # the shell's own listing is 3
    calls = {{
        "short": lambda **o: nsdemo.run(look, **quiet, **o),
        "long": lambda **o: nsdemo.run(look, user=True, uid=0, **quiet, **o),
        "init": lambda **o: nsdemo.run(look, init=True, **quiet, **o),
    }}
    def inside(call, **options):
        return [int(name.rpartition("/")[2]) for name in call(**options).stdout.split()]
    found = {{name: inside(call) for name, call in calls.items()}}
    passed = {{name: inside(call, pass_fds=[top]) for name, call in calls.items()}}
    box = nsdemo.spawn(["sleep", "1000"], init=True, pass_fds=[top], stdin=nsdemo.DEVNULL)
    def held():
        for pid in children():
            with contextlib.suppress(OSError):  # they hide from an ordinary user
                yield from os.listdir(f"/proc/{{pid}}/fd")
    until = time.monotonic() + 5
    while str(top) in set(held()) and time.monotonic() < until:
        time.sleep(0.01)
    stays = sorted(held())
    box.stop()
    report(top=top, found=found, passed=passed, stays=stays)
"""


@pytest.mark.parametrize("lowered", [0, 64], ids=["", "the limit was lowered since"])
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_no_descriptor_without_close_range(error: str, lowered: int) -> None:
    """Of any number, also above the limit of today."""
    found = script(HIGH.format(lowered=lowered), under=refusing("close_range", error)).report
    for name in ("short", "long", "init"):
        assert set(found["found"][name]) <= {0, 1, 2, 3}, name
        assert set(found["passed"][name]) <= {0, 1, 2, 3, found["top"]}, name
        assert found["top"] in found["passed"][name], name
    assert str(found["top"]) not in found["stays"]  # by an init or a watchdog


# -- files that a process keeps --------------------------------------------------------------------


def test_what_failed_once_is_tried_again() -> None:
    """No low number was free at the first launches, and later there were some."""
    body = """
        box = nsdemo.spawn(["sleep", "1000"], stdin=nsdemo.DEVNULL)
        hoard = [os.dup(0) for _ in range(100)]
        kept = lambda: {link for link in all_descriptors().values() if link in KEPT}
        nsdemo.enter(box, ["true"])
        during = len(kept())
        for fd in hoard:
            os.close(fd)
        turns = 0
        while len(kept()) < 2 and turns < 500:
            nsdemo.enter(box, ["true"])
            turns += 1
        box.stop()
        report(during=during, turns=turns, kept=sorted(kept()))
    """
    found = script(body).report
    assert found["during"] < 2
    assert len(found["kept"]) == 2
    assert found["turns"] < 100


# -- captured output -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True], ids=["bytes", "text"])
def test_output_is_kept_once(text: bool) -> None:
    body = """
        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
        size, text = 64 << 20, json.loads(sys.argv[1])
        options = dict(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, text=text, encoding=None)
        command = ["head", "-c", str(size), "/dev/zero"]
        nsdemo.run(["true"], **options).trace
        before = resident()
        done = nsdemo.run(command, **options)
        ran = resident() - before
        assert len(done.stdout) == size
        del done
        before = resident()
        box = nsdemo.spawn(command, **options)
        out = box.communicate()[0]
        talked = resident() - before
        assert len(out) == size and box.communicate()[0] is out
        report(size=size, ran=ran, talked=talked)
    """
    found = script(body, "true" if text else "false").report
    assert found["ran"] < found["size"] * 1.5
    assert found["talked"] < found["size"] * 1.5


def test_input_is_not_kept() -> None:
    data = b"x" * 1000
    before = sys.getrefcount(data)
    done = nsdemo.run(["cat"], input=data, stdout=nsdemo.PIPE)
    box = nsdemo.spawn(["cat"], stdin=nsdemo.PIPE, stdout=nsdemo.PIPE)
    assert box.communicate(input=data)[0] == done.stdout == data
    assert sys.getrefcount(data) == before


def test_output_that_does_not_fit_is_a_memory_error() -> None:
    body = """
        most = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        most += 200 << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        endless = dict(args=["yes"], stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        def kind(call):
            try:
                call()
            except BaseException as error:
                return type(error).__name__, str(error)
        found = [kind(lambda: nsdemo.run(**endless, timeout=50)),
                 kind(lambda: nsdemo.run(**endless, timeout=50, init=True))]
        box = nsdemo.spawn(**endless)
        found.append(kind(lambda: box.communicate(timeout=50)))
        box.kill()
        box.wait()
        report(found=found, children=len(children()))
    """
    found = script(body).report
    assert [name for name, _ in found["found"]] == ["MemoryError"] * 3
    assert found["children"] == 0
