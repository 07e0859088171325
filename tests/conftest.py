"""Rules for every test: what may be skipped, and that nothing is left behind."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import devices, leftovers, own_machine, snapshot, user_namespaces

import nsdemo
from nsdemo._plan import explain

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# A mistake in a hint shall be seen here.
explain._PASSED_OVER = (OSError, ImportError, MemoryError)

# With NSDEMO_MUST_WORK=1 (CI, where everything is installed) a skip is a failure, except
# these: the beginning of the skip's reason, and why it is right even there.
ALLOWED_SKIPS = {
    "the long form": "its short form has run; --long is for a nightly run",
    "the browser tests": "CI runs them in a section of their own, with --browser",
    "only root": "CI runs the tests a second time, as root",
    "only an ordinary user": "CI runs the tests a second time, as an ordinary user",
    "subinterpreters": "concurrent use of them begins with Python 3.12; CI has that too",
    "cat is statically linked": "Alpine: the test is about a dynamic loader",
    "this kernel has no": "an older kernel lacks a namespace; nsdemo cannot add it",
}

MOST_WORKERS = 8
# With workers these come first, lest one is still busy with them when the others are done.
LONGEST = ("test_c.py", "test_check_", "test_lessons.py", "test_package.py", "test_learn.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms of the tests")
    parser.addoption("--browser", action="store_true", help="run the tests in a real browser")


def pytest_configure(config: pytest.Config) -> None:
    # With xdist each worker has a machine of its own, and who only hands out tests needs none.
    if not config.getoption("numprocesses", None) and not config.getoption("collectonly"):
        own_machine()
    config.addinivalue_line("markers", "leaves(reason): excused from the search for leftovers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="the long form runs with --long"))
        if item.get_closest_marker("browser") and not config.getoption("--browser"):
            item.add_marker(pytest.mark.skip(reason="the browser tests run with --browser"))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not _takes_long(item.nodeid))
    gc.collect()
    gc.freeze()  # what has been collected stays: the search for leftovers need not go through it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: a worker for each processor that we may use; with one, no worker at all."""
    processors = len(os.sched_getaffinity(0))
    return min(processors, MOST_WORKERS) if processors > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of a file run on one worker, in their order; those of the engines on another.

    So whatever is made once for a file, an engine or a compiler is made once in a run.
    """
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False  # ours is the order of the collection

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if _of_an_engine(nodeid):
                return "engines"
            file, _, test = nodeid.partition("::")
            compiler = next((name for name in ("[gcc", "[clang") if name in test), "")
            return file + compiler

    return ByFile(config, log)


def _takes_long(nodeid: str) -> bool:
    return _of_an_engine(nodeid) or nodeid.rpartition("::")[0].rpartition("/")[2].startswith(
        LONGEST
    )


def _of_an_engine(nodeid: str) -> bool:
    return any(word in nodeid for word in ("docker", "podman"))


def _fail_forbidden_skip(report: Any) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    if os.environ.get("NSDEMO_MUST_WORK") != "1":
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(tuple(ALLOWED_SKIPS)):
        report.outcome = "failed"
        report.longrepr = f"skipped where everything must work (NSDEMO_MUST_WORK=1): {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    _fail_forbidden_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report = yield
    _fail_forbidden_skip(report)
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No child, descriptor, mount or file more than before; the same signals, ids, directory."""
    # An engine's daemon is started when first asked for, and lives as long as the session.
    if _of_an_engine(request.node.nodeid) or request.node.get_closest_marker("leaves"):
        before_it = devices()
        yield
        assert devices() == before_it
        return
    before = snapshot()
    yield
    assert not (left := leftovers(before)), f"left behind by the test: {left}"


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """A busybox root that every user can read."""
    try:
        made = nsdemo.Rootfs.busybox()
    except FileNotFoundError as error:
        pytest.skip(f"{error} (on Debian: apt-get install busybox-static)")
    with made:
        # Whoever writes there first would make it, and nobody else may then.
        null = Path(made, "dev", "null")
        null.parent.mkdir(exist_ok=True)
        null.touch()
        null.chmod(0o666)
        yield Path(made)


@pytest.fixture(scope="session")
def ordinary_users_may() -> None:
    """Skip where nobody but root gets a namespace."""
    if not user_namespaces():
        pytest.skip("this machine gives ordinary users no user namespace")
