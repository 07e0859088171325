"""Scripts without the start of an interpreter, for a machine where that takes seconds.

One process has imported everything a script may want, and forks for each script that support.py
hands it. The fork goes on where a script of its own would begin, in ``__main__``, and ends as
any interpreter does. With NSDEMO_WARM=1; otherwise each script is a fresh interpreter.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

from refuse import refuse

LONGEST = 1 << 20  # of a request, in bytes


def _receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, descriptors, _, _ = socket.recv_fds(control, LONGEST, 2)
    return (json.loads(message) if message else {}), descriptors


def next_script(descriptor: int) -> str:
    """Returns in a fork for each script, with its text; ends the process with the last one."""
    control = socket.socket(fileno=descriptor)
    gc.collect()
    gc.freeze()  # or each fork would go through all of it, and so copy it, when it ends
    while True:
        request, outputs = _receive(control)
        if not request:
            os._exit(0)
        pid = os.fork()
        if pid == 0:
            break
        for output in outputs:
            os.close(output)
        control.send(json.dumps(pid).encode())
        control.send(json.dumps(os.waitpid(pid, 0)[1]).encode())
    control.close()
    for output, standard in zip(outputs, (1, 2), strict=True):
        os.dup2(output, standard)
        os.close(output)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[1:] = request["args"]
    if request["refused"]:
        call, error = request["refused"]
        refuse(call, getattr(errno, error))
    text: str = request["text"]
    return text


class Warm:
    """The process that forks, and the way to it."""

    def __init__(self, preamble: str) -> None:
        self._control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        last = f"import warm\nexec(warm.next_script({its.fileno()}))\n"
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", preamble + last],
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )

    def run(self, seconds: float, **request: Any) -> subprocess.CompletedProcess[str]:
        """Run a script as subprocess.run(capture_output=True) does, and raise what that does."""
        pipes = [os.pipe(), os.pipe()]
        with self._lock:
            socket.send_fds(self._control, [json.dumps(request).encode()], [w for _, w in pipes])
            for _, end in pipes:
                os.close(end)
            pid = json.loads(self._control.recv(64))
            texts = self._read([end for end, _ in pipes], time.monotonic() + seconds)
            if texts is None:
                os.kill(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(json.loads(self._control.recv(64)))
        if texts is None:
            raise subprocess.TimeoutExpired(request["text"], seconds)
        return subprocess.CompletedProcess([request["text"]], status, *texts)

    @staticmethod
    def _read(ends: list[int], until: float) -> list[str] | None:
        """Everything that comes out of these pipes; None if it does not end in time."""
        found: dict[int, bytes] = dict.fromkeys(ends, b"")
        try:
            with selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ)
                while selector.get_map():
                    ready = selector.select(max(0, until - time.monotonic()))
                    if not ready:
                        return None
                    for key, _ in ready:
                        if data := os.read(key.fd, 1 << 16):
                            found[key.fd] += data
                        else:
                            selector.unregister(key.fd)
        finally:
            for end in ends:
                os.close(end)
        return [found[end].decode() for end in ends]
