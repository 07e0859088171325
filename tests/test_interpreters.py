"""Several interpreters in one process: each has its own module, and its own GIL if it wants."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import nsdemo

PARENT = Path(nsdemo.__file__).resolve().parent.parent

needs_own_gil = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason="subinterpreters have a GIL of their own from CPython 3.12 on",
)


def in_fresh_python(code: str) -> str:
    """The output of a script; what it does to its interpreters stays in that process."""
    prologue = f"import sys\nsys.path.insert(0, {str(PARENT)!r})\n"
    ran = subprocess.run(
        [sys.executable, "-c", prologue + textwrap.dedent(code)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


# A script's first lines: create(own_gil) -> id, and run(id, code), which raises what it raised.
SUBINTERPRETERS = f"""
import textwrap
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    def create(own_gil):
        return interpreters.create("isolated" if own_gil else "legacy")
    def run(number, code):
        failure = interpreters.exec(number, PROLOGUE + textwrap.dedent(code))
        assert failure is None, failure.formatted
else:
    import _xxsubinterpreters as interpreters
    def create(own_gil):
        return interpreters.create(isolated=own_gil)
    def run(number, code):
        interpreters.run_string(number, PROLOGUE + textwrap.dedent(code))
PROLOGUE = "import sys; sys.path.insert(0, {str(PARENT)!r})\\n"
"""


def script(body: str) -> str:
    return SUBINTERPRETERS + textwrap.dedent(body)


def test_a_second_import_of_the_core_has_a_state_of_its_own() -> None:
    out = in_fresh_python(
        """
        import importlib.util
        from nsdemo import _core
        spec = importlib.util.spec_from_file_location("nsdemo._core", _core.__file__)
        second = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(second)
        assert second is not _core
        assert second.Plan is not _core.Plan and second.Process is not _core.Process
        try:
            second.launch(_core.Plan(), deadline=0)
        except TypeError:
            print("each knows its own Plan")
        """
    )
    assert out == "each knows its own Plan\n"


def test_an_interpreter_of_the_old_kind_imports_it() -> None:
    out = in_fresh_python(
        script(
            """
            import nsdemo
            number = create(own_gil=False)
            run(number, '''
                import nsdemo
                plan = nsdemo.Plan().setsid().exec(["true"])
                print(plan.run().returncode, flush=True)
            ''')
            interpreters.destroy(number)
            """
        )
    )
    assert out == "0\n"


def test_the_names_of_an_interpreter_end_with_it() -> None:
    """Those of a request are interned, by each interpreter for itself."""
    out = in_fresh_python(
        script(
            """
            CODE = '''
                from nsdemo import _core
                def names(**wishes):
                    plan = _core.recipe("spawn", [b"x"], [], [b"/x"], None, unshare=0, **wishes)
                    return [step[0] for step in plan.steps()]
                assert "sethostname" in names(hostname=b"boxy", uid=5)
                assert "setuid" in names(**{"".join("uid"): 5})
            '''
            exec(textwrap.dedent(CODE))
            for _ in range(5):
                number = create(own_gil=False)
                run(number, CODE)
                interpreters.destroy(number)
                assert "sethostname" in names(hostname=b"boxy", uid=5)
            print("names are there")
            """
        )
    )
    assert out == "names are there\n"


@needs_own_gil
def test_two_interpreters_launch_at_the_same_time() -> None:
    out = in_fresh_python(
        script(
            """
            import threading, nsdemo
            CODE = '''
                import os, nsdemo
                for _ in range(20):
                    with nsdemo.spawn(["sh", "-c", "exit 3"]) as box:
                        assert box.wait() == 3, box.returncode
                assert nsdemo.run(["sh", "-c", "exit 4"]).returncode == 4
                os.write(1, b"done\\\\n")
            '''
            def whole_life():  # in one thread: CPython 3.12.1 hangs otherwise, without us too
                number = create(own_gil=True)
                run(number, CODE)
                interpreters.destroy(number)
            threads = [threading.Thread(target=whole_life) for _ in range(2)]
            for thread in threads:
                thread.start()
            assert nsdemo.run(["true"]).returncode == 0
            for thread in threads:
                thread.join()
            """
        )
    )
    assert out == "done\ndone\n"


@needs_own_gil
def test_a_container_left_in_an_interpreter_ends_with_it() -> None:
    out = in_fresh_python(
        script(
            """
            import os, time
            number = create(own_gil=True)
            reading, writing = os.pipe()
            run(number, f'''
                import os, warnings, nsdemo
                warnings.simplefilter("ignore")
                box = nsdemo.spawn(["sleep", "1000"])
                os.write({writing}, str(box.pid).encode())
            ''')
            pid = int(os.read(reading, 20))
            assert os.path.exists(f"/proc/{pid}")
            interpreters.destroy(number)
            while os.path.exists(f"/proc/{pid}"):
                time.sleep(0.01)
            print("ended")
            """
        )
    )
    assert out == "ended\n"


def test_the_slots_fit_this_python() -> None:
    """The one for interpreters with their own GIL is an error before CPython 3.12."""
    assert in_fresh_python("from nsdemo import _core; print(_core.__name__)") == "nsdemo._core\n"
