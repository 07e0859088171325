"""At the edge of what a process may have, and in the odd places that Python code runs in."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest
from support import IS_ROOT, script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

LOOK = '["sh", "-c", "cd /proc/self/fd && echo *"]'


# -- descriptors -----------------------------------------------------------------------------------


def test_no_descriptors_left() -> None:
    """EMFILE with 0, 1, 2, ... descriptors free: each call works or fails clearly."""
    body = """
        nsdemo.run(["true"], capture_output=True)  # everything is imported
        box = nsdemo.spawn(["sleep", "1000"], stdin=nsdemo.DEVNULL)
        own = "/proc/self/ns/uts"
        top = max(descriptors()) + 40
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, top))
        hoard = []
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        calls = {
            "inherited": lambda: nsdemo.run(["/bin/true"]),
            "pipes": lambda: nsdemo.run(["/bin/true"], capture_output=True, input=b"x"),
            "spawned": lambda: nsdemo.spawn(["/bin/sleep", "1000"], stdout=-1).stop(),
            "chroot": lambda: nsdemo.chroot_run("/", ["/bin/true"], stdout=nsdemo.DEVNULL),
            "init": lambda: nsdemo.run(["/bin/true"], init=True, user=True, uts=own),
            "enter": lambda: nsdemo.enter(box, ["/bin/true"]),
        }
        found = {name: [] for name in calls}
        for free in range(14):
            for name, call in calls.items():
                error = ""
                try:
                    call()
                except OSError as caught:
                    error = errno.errorcode[caught.errno]
                    del caught
                found[name].append(error)
            os.close(hoard.pop())
        while hoard:
            os.close(hoard.pop())
        box.stop()
        del box, call, calls
        gc.collect()
        report(found=found, children=len(children()), open=sorted(descriptors()))
    """
    found = script(body).report
    for name, errors in found["found"].items():
        assert set(errors) <= {"", "EMFILE"}, name
        assert errors[0] == "EMFILE", name  # not even a pidfd
        assert errors[-1] == "", name
        assert errors == sorted(errors, reverse=True), "more descriptors, yet a new failure"
    assert found["children"] == 0
    assert len(found["open"]) <= 5


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "ordinary"])
def test_ten_thousand_open_files(ordinary: bool) -> None:
    """None of them is inside, and the launch is not much dearer for them."""
    body = f"""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if most < 10_100:
            report(most=most)
            sys.exit()
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        def spent():  # CPU, ours and our children's: a busy machine does not change it much
            both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
            return sum(each.ru_utime + each.ru_stime for each in both)
        def best():
            times = []
            for _ in range(15):
                began = spent()
                done = nsdemo.run(["/bin/true"], stdin=nsdemo.DEVNULL)
                times.append(spent() - began)
            return min(times)
        few = best()
        files = [os.dup(0) for _ in range(10_000)]
        for fd in files[::3]:
            os.set_inheritable(fd, True)
        many = best()
        done = nsdemo.run({LOOK}, stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        passed = nsdemo.run({LOOK}, stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE,
                            pass_fds=[files[7], files[-1]])
        report(most=most, few=few, many=many, inside=done.stdout.split()[:9].__repr__(),
               passed=[int(fd) for fd in passed.stdout.split()], given=[files[7], files[-1]])
    """
    found = script(body, ordinary=ordinary).report
    if found["most"] < 10_100:
        pytest.skip(f"only {found['most']} descriptors are allowed here")
    assert found["inside"] in ("[b'0', b'1', b'2']", "[b'0', b'1', b'2', b'3']")
    assert set(found["given"]) <= set(found["passed"])
    assert len(found["passed"]) <= 6
    assert found["many"] < found["few"] * 3 + 0.001


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "ordinary"])
def test_a_large_heap(ordinary: bool) -> None:
    """1 GB that is in use: a fork would take 35 ms of our CPU, and twice the memory."""
    body = """
        def best():
            times = []
            for _ in range(15):
                began = time.thread_time()
                nsdemo.run(["/bin/true"], stdin=nsdemo.DEVNULL)
                times.append(time.thread_time() - began)
            return min(times)
        empty = best()
        heap = bytearray(1 << 30)
        for at in range(0, len(heap), 4096):
            heap[at] = 1
        forks = []
        for _ in range(3):
            began = time.thread_time()
            os.waitpid(os.fork() or os._exit(0), 0)
            forks.append(time.thread_time() - began)
        report(empty=empty, full=best(), fork=min(forks))
    """
    found = script(body, ordinary=ordinary).report
    assert found["full"] < found["fork"] / 2


def test_a_small_stack_and_address_space() -> None:
    """RLIMIT_STACK and RLIMIT_AS are the command's too; the launcher needs next to nothing."""
    body = """
        plan = nsdemo.spawn(["/bin/true"], init=True, stdin=nsdemo.DEVNULL, dry_run=True)
        resource.setrlimit(resource.RLIMIT_STACK, (256 << 10, 256 << 10))
        report(status=[plan.run().returncode for _ in range(3)])
    """
    assert script(body).report["status"] == [0, 0, 0]


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]], ids=str)
def test_a_closed_standard_stream(closed: list[int], tmp_path: Path) -> None:
    """Inherited: an error that says what to pass. Given: it works, whatever numbers are free."""
    body = """
        closed, where = json.loads(sys.argv[1]), sys.argv[2]
        kept = os.dup(1)
        for fd in closed:
            os.close(fd)
        def tell(**values):
            os.write(kept, (json.dumps(values) + "\\n").encode())
        try:
            nsdemo.run(["true"])
            refused = None
        except OSError as error:
            refused = facts_of(error)
        before = descriptors()
        script = "cat; echo out; echo err >&2; ls /proc/self/fd | wc -l"
        one = nsdemo.run(["sh", "-c", script], input=b"in\\n", capture_output=True)
        with open("/proc/self/ns/uts"):  # a number that is free may become a namespace file's
            pass
        two = nsdemo.run(["readlink", "/proc/self/fd/0"], uts="/proc/self/ns/uts", user=True,
                         stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, stderr=nsdemo.DEVNULL)
        box = nsdemo.spawn(["sleep", "1000"], stdin=-3, stdout=-3, stderr=-3)
        ipc = f"/proc/{box.pid}/ns/ipc"
        three = nsdemo.run(["readlink", "/proc/self/fd/0"], user=box.pid, ipc=ipc,
                           stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, stderr=nsdemo.DEVNULL)
        box.stop()
        del box
        facts = dict(out=one.stdout.decode(), err=one.stderr.decode(),
                     two=two.stdout.decode(), three=three.stdout.decode())
        del one, two, three
        gc.collect()
        tell(refused=refused, **facts,
             left=sorted(set(descriptors()) ^ set(before)))
        os._exit(0)
    """
    found = script(body, repr(closed), str(tmp_path)).report
    assert found["refused"]["errno"] == errno.EBADF
    assert "DEVNULL" in found["refused"]["text"]
    assert (found["out"], found["err"]) == ("in\nout\n4\n", "err\n")
    assert found["two"] == found["three"] == "/dev/null\n"
    assert found["left"] == []


# -- threads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "ordinary"])
def test_a_hundred_threads(ordinary: bool) -> None:
    body = """
        begun = threading.Barrier(100)
        def one(number):
            begun.wait()
            done = nsdemo.run(["sh", "-c", f"exit {number}"], stdin=nsdemo.DEVNULL)
            return done.returncode == number
        before = snapshot()
        with concurrent.futures.ThreadPoolExecutor(100) as pool:
            right = list(pool.map(one, range(100)))
        report(right=sum(right), left=leftovers(before))
    """
    assert script(body, ordinary=ordinary).report == {"right": 100, "left": []}


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "ordinary"])
def test_from_another_thread_and_asyncio(ordinary: bool) -> None:
    """The kernel refuses a threaded caller some namespaces; the launcher is not threaded."""
    body = """
        everything = dict(net=True, cgroup=True, time=True, user=True, hostname="box",
                          stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE, text=True)
        found = []
        def work():
            found.append(nsdemo.run(["hostname"], **everything).stdout)
            with nsdemo.spawn(["sleep", "1000"], net=True, hostname="other",
                              stdin=nsdemo.DEVNULL) as box:
                found.append(box.enter(["hostname"], stdout=nsdemo.PIPE, text=True).stdout)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        async def several():
            calls = [asyncio.to_thread(nsdemo.run, ["hostname"], **everything) for _ in range(24)]
            ticks = 0
            task = asyncio.gather(*calls)
            while not task.done():
                await asyncio.sleep(0.001)
                ticks += 1
            return [done.stdout for done in await task], ticks
        outputs, ticks = asyncio.run(several())
        report(found=found, outputs=outputs, ticks=ticks)
    """
    found = script(body, ordinary=ordinary).report
    assert found["found"] == ["box\n", "other\n"]
    assert found["outputs"] == ["box\n"] * 24
    assert found["ticks"] > 2


def test_subinterpreters() -> None:
    """Each has a _core of its own, or is refused in words."""
    if sys.version_info < (3, 12):
        pytest.skip("subinterpreters that may run at the same time begin with Python 3.12")
    body = """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        code = "import sys; sys.path[:] = " + repr(sys.path) + '''
try:
    import nsdemo
except ImportError as error:
    assert "subinterpreters" in str(error), error
else:
    assert nsdemo.run(["true"], stdin=nsdemo.DEVNULL).returncode == 0
'''
        for _ in range(3):
            one = interpreters.create()
            failed = interpreters.run_string(one, code)
            assert failed is None, failed
            interpreters.destroy(one)
        report(status=nsdemo.run(["true"], stdin=nsdemo.DEVNULL).returncode)
    """
    assert script(body).report["status"] == 0


# -- places ----------------------------------------------------------------------------------


def test_inside_unshare_map_root() -> None:
    """Root of a user namespace, uid 0 and alone: as in a rootless container."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    body = """
        options = dict(hostname="box", stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        command = ["sh", "-c", "id -u; hostname"]
        found = [outcome(lambda: nsdemo.run(command, **options)),
                 outcome(lambda: nsdemo.run(command, net=True, user=True, **options))]
        report(uid=os.getuid(), found=found)
    """
    under = [unshare, "--map-root-user"]
    found = script(body, under=under).report
    assert found["uid"] == 0
    for one in found["found"]:
        assert (one["error"], one["output"], one["left"]) == (None, "0\nbox\n", [])


def test_proc_partly_covered() -> None:
    """As in many containers: the kernel then gives a user namespace no /proc of its own."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    body = """
        covered = any(map(ctypes_mount, ["/proc/acpi", "/proc/scsi", "/proc/fs"]))
        report(covered=covered,
               proc=outcome(lambda: nsdemo.run(["true"], user=True, stdin=nsdemo.DEVNULL)),
               none=outcome(lambda: nsdemo.run(["true"], user=True, mount_proc=False,
                            stdin=nsdemo.DEVNULL)))
    """
    helper = """
        import ctypes
        def ctypes_mount(where):
            return ctypes.CDLL(None).mount(b"none", where.encode(), b"tmpfs", 0, None) == 0
    """
    prefix = [unshare, *([] if IS_ROOT else ["--map-root-user"]), "--mount"]
    found = script(dedented(helper) + dedented(body), under=prefix).report
    if not found["covered"]:
        pytest.skip("nothing in /proc can be covered here")
    error = found["proc"]["error"]
    assert (error["operation"], error["errno"]) == ("mount", errno.EPERM)
    assert any("/proc/" in note for note in error["notes"]), "a hint names what covers it"
    assert found["proc"]["at_once"] == found["proc"]["left"] == []
    assert (found["none"]["error"], found["none"]["returncode"]) == (None, 0)


def dedented(text: str) -> str:
    lines = [line.removeprefix("        ") for line in text.splitlines()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("ordinary", [False, True], ids=["as we are", "ordinary"])
def test_a_directory_that_has_gone(ordinary: bool) -> None:
    body = """
        import tempfile
        where = tempfile.mkdtemp()
        os.chdir(where)
        os.rmdir(where)
        found = outcome_without_cwd()
        os.chdir("/")
        report(**found)
    """
    helper = """
        def outcome_without_cwd():
            try:
                done = nsdemo.run(["echo", "out"], stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
                inside = nsdemo.run(["pwd"], cwd="/", stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
            except OSError as error:
                return {"error": facts_of(error)}
            return {"error": None, "output": done.stdout.decode() + inside.stdout.decode()}
    """
    found = script(dedented(helper) + dedented(body), ordinary=ordinary).report
    assert found == {"error": None, "output": "out\n/\n"}


def test_the_caller_never_changes(rootfs: Path) -> None:
    """Every kind of launch, from a process that has unusual settings."""
    body = """
        os.umask(0o057)
        os.chdir("/usr")
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        prctl(PR_SET_DUMPABLE, 0) if os.geteuid() == 0 else None
        quiet = dict(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        before = snapshot()
        root = sys.argv[1]
        signals = "grep -E 'Sig(Blk|Ign)' /proc/self/status; umask"
        found = nsdemo.run(["sh", "-c", signals], umask=0o022, **quiet).stdout.decode()
        nsdemo.run(["true"], root=root, net=True, hostname="box", uid=0, gid=0, **quiet)
        nsdemo.run(["true"], init=True, user=True, time=True, cgroup=True, **quiet)
        nsdemo.chroot_run(root, ["true"], **quiet)
        nsdemo.run(["true"], fork=False, mount_proc=False, umask=0, **quiet)
        with nsdemo.spawn(["sleep", "1000"], root=root, stdin=nsdemo.DEVNULL) as box:
            box.enter(["true"], **quiet)
        del box
        report(found=found.split(), left=leftovers(before))
    """
    found = script(body, str(rootfs)).report
    zero = "0000000000000000"
    assert found["found"] == ["SigBlk:", zero, "SigIgn:", zero, "0022"]
    assert found["left"] == []
    assert os.getcwd() != "/usr"
