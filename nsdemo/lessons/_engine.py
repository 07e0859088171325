"""A container of Docker or Podman for lesson 3, made from a root that the learner has already.

Nothing is downloaded: ``docker import`` makes an image of any archive of a root directory.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import weakref

import nsdemo

__all__ = ["EngineContainer", "start"]

_TIMEOUT = 60  # seconds; an engine that is asleep takes a few


class EngineContainer:
    """A container that an engine runs.

    Attributes:
        engine: "docker" or "podman".
        name: what the engine calls it.
        pid: its first process, as this machine counts.
    """

    engine: str
    name: str
    pid: int

    def __init__(self, engine: str, name: str, pid: int) -> None:
        self.engine = engine
        self.name = name
        self.pid = pid
        self._finalizer = weakref.finalize(self, _remove, engine, name)

    def __repr__(self) -> str:
        return f"<container {self.name} of {self.engine}, pid {self.pid}>"

    def stop(self) -> None:
        """End the container and remove its image."""
        self._finalizer()


class _Refusal(Exception):
    """An engine did not do what it was asked; the text is its last word."""


def start(root: str | os.PathLike[str]) -> EngineContainer | None:
    """Start a container of the first engine that can, or print why none can."""
    findings = nsdemo.doctor()
    for engine in ("docker", "podman"):
        finding = findings[engine]
        if not finding.works:
            print(f"{engine} {finding.detail}.")
            continue
        try:
            return _start(engine, root)
        except _Refusal as refusal:
            print(f"{engine} cannot, here: {refusal}")
    print("So there is no container of an engine. The rest of the lesson does without.")
    return None


def _start(engine: str, root: str | os.PathLike[str]) -> EngineContainer:
    name = f"nsdemo-lesson-{os.getpid()}"
    print(f"$ tar -C {os.fspath(root)} -c . | {engine} import - {name}")
    _run([engine, "import", "-", name], _archive(root))
    try:
        _show(
            [engine, "run", "-d", "--rm", "--network", "none", "--name", name, name, "sleep", "1h"]
        )
        pid = int(_show([engine, "inspect", "--format", "{{.State.Pid}}", name]))
        print(pid)
        nsdemo.namespaces(pid)
    except PermissionError:
        _remove(engine, name)
        raise _Refusal(
            "its containers belong to another user than you, and the kernel lets you look into "
            "the processes of your own only"
        ) from None
    except BaseException:
        _remove(engine, name)
        raise
    return EngineContainer(engine, name, pid)


def _archive(root: str | os.PathLike[str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(os.fspath(root), ".")
    return archive.getvalue()


def _show(command: list[str]) -> str:
    print("$", *command)
    return _run(command)


def _run(command: list[str], data: bytes = b"") -> str:
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise _Refusal(f"it did not answer within {_TIMEOUT} seconds") from None
    except OSError as error:
        raise _Refusal(str(error)) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        # Docker's last words are where to read about its flags.
        said = [line for line in said if line and not line.startswith(("See '", "Run '"))]
        raise _Refusal(said[-1] if said else f"exit status {done.returncode}")
    return done.stdout.decode(errors="replace").strip()


def _remove(engine: str, name: str) -> None:
    for command in (["rm", "--force", name], ["rmi", "--force", name]):
        subprocess.run(
            [engine, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
