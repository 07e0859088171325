"""Thousands of launches at once leave nothing behind: processes, descriptors, memory, mounts."""

from __future__ import annotations

from typing import Any

import pytest
from support import script

pytestmark = pytest.mark.usefixtures("ordinary_users_may")

STORM = """
    threads, launches, heap = map(int, sys.argv[1:4])
    root = sys.argv[4]
    ballast = bytearray(heap)
    for at in range(0, heap, 4096):
        ballast[at] = 1
    files = [open(os.devnull) for _ in range(500)]
    for file in files[::2]:
        os.set_inheritable(file.fileno(), True)
    alarms = [0]
    def alarm(*_):
        alarms[0] += 1
    signal.signal(signal.SIGALRM, alarm)
    signal.signal(signal.SIGPROF, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    signal.setitimer(signal.ITIMER_PROF, 0.003, 0.003)
    look = ["sh", "-c", "cd /proc/self/fd && echo * && kill -0 $$"]
    def one(number):
        form = number % 8
        options = dict(stdin=nsdemo.DEVNULL, stdout=nsdemo.PIPE)
        if form == 0:
            done = nsdemo.run(look, **options)
        elif form == 1:
            done = nsdemo.run(look, init=True, **options)
        elif form == 2:
            done = nsdemo.run(look, root=root, hostname="box", **options)
        elif form == 3:
            done = nsdemo.chroot_run("/", look, **options)
        elif form == 4:
            done = nsdemo.run(look, pid=False, mount=False, **options)
        elif form == 5:
            with nsdemo.spawn(["sleep", "1000"], stdin=nsdemo.DEVNULL) as box:
                done = nsdemo.enter(box, look, **options)
        elif form == 6:
            with contextlib.suppress(FileNotFoundError):
                nsdemo.run(["/no/such"], root=root, **options)
                return "it ran"
            return None
        else:
            with contextlib.suppress(nsdemo.TimeoutExpired):
                nsdemo.run(["sleep", "1000"], timeout=0.01, **options)
                return "it ended"
            return None
        seen = done.stdout.split()  # 3 is the directory that the shell has open to list it
        if done.returncode or seen not in ([b"0", b"1", b"2"], [b"0", b"1", b"2", b"3"]):
            return f"{form}: {done}"
    def many(first):
        return [wrong for n in range(first, launches, threads) if (wrong := one(n))]
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: one(0), range(threads)))  # threads, caches and arenas exist
        before, used = snapshot(), resident()
        if {forks}:
            import multiprocessing
            context = multiprocessing.get_context("fork")
            workers = []
            for number in range({forks}):
                workers.append(context.Process(target=os._exit, args=(0,)))
        futures = [pool.submit(many, number) for number in range(threads)]
        if {forks}:
            for worker in workers:
                worker.start()
                time.sleep(0.02)
            for worker in workers:
                worker.join()
        wrong = [each for future in futures for each in future.result()]
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if {forks}:
            for worker in workers:
                worker.close()
            del workers, worker
        left = leftovers(before)
    report(wrong=wrong[:5], left=left, alarms=alarms[0], grown=resident() - used)
"""


def storm(root: Any, launches: int, heap: int, forks: int) -> dict[str, Any]:
    body = STORM.replace("{forks}", str(forks))
    done = script(body, "8", str(launches), str(heap), str(root), timeout=3600)
    found: dict[str, Any] = done.report
    assert found["wrong"] == []
    assert found["left"] == []
    assert found["alarms"] > launches / 20, "the signals did not fly"
    return found


def test_storm(rootfs: Any) -> None:
    """8 threads, 500 open files, two timers, a big heap."""
    assert storm(rootfs, 400, 200 << 20, 0)["grown"] < 8 << 20


def test_storm_with_forks(rootfs: Any) -> None:
    """As above, while other threads fork: nobody's fork holds a pipe of ours open."""
    storm(rootfs, 200, 16 << 20, 20)


@pytest.mark.long
def test_storm_of_twenty_thousand(rootfs: Any) -> None:
    assert storm(rootfs, 20_000, 1 << 30, 0)["grown"] < 16 << 20


@pytest.mark.long
def test_storm_of_forks(rootfs: Any) -> None:
    storm(rootfs, 10_000, 256 << 20, 1000)


def grown(call: str, rounds: int) -> Any:
    """Memory, descriptors and mappings that a call keeps: bytes, count, count."""
    body = f"""
        import tracemalloc
        def call():
            {call}
        def measure():
            gc.collect()
            with open("/proc/self/statm") as file, open("/proc/self/maps") as maps:
                return int(file.read().split()[1]) * 4096, len(descriptors()), len(list(maps))
        for _ in range(30):
            call()
        before = measure()
        for _ in range({rounds}):
            call()
        report(grown=[b - a for a, b in zip(before, measure())])
    """
    return script(body, timeout=600).report["grown"]


CALLS = [
    "nsdemo.run(['true'], capture_output=True, input=b'x' * 100_000).trace",
    "nsdemo.run(['true'], init=True, stdin=nsdemo.DEVNULL)",
    "with contextlib.suppress(OSError): nsdemo.run(['/no/such'], capture_output=True)",
    "with contextlib.suppress(OSError): nsdemo.run(['true'], root='/no/such', stdin=nsdemo.PIPE)",
    "nsdemo.spawn(['true'], stdout=nsdemo.PIPE, stdin=nsdemo.DEVNULL).communicate()",
    "str(nsdemo.spawn(['true'], root='/', hostname='x', dry_run=True))",
]


@pytest.mark.parametrize("call", CALLS, ids=["run", "init", "missing", "no-root", "spawn", "plan"])
def test_a_call_keeps_nothing(call: str) -> None:
    memory, files, mappings = grown(call, 150)
    assert files == 0
    assert mappings <= 4  # the allocator's own
    assert memory < 150 * 3000, "a page or more is kept by each call"


@pytest.mark.long
@pytest.mark.parametrize("call", CALLS, ids=["run", "init", "missing", "no-root", "spawn", "plan"])
def test_a_call_keeps_nothing_in_the_long_run(call: str) -> None:
    memory, files, mappings = grown(call, 10_000)
    assert files == 0
    assert mappings <= 8
    assert memory < 10_000 * 100
