"""Run every lesson on a JupyterLab that is running here, as a browser would, as a program.

It asks the server for its notebooks, starts a kernel for each and sends it the code cells, over
HTTP and a websocket. The result is JSON on standard output: for each notebook its errors, how many
pictures it showed, and the text that was printed. It needs what JupyterLab needs, and no more.
"""

from __future__ import annotations

import json
import sys
import urllib.request
import uuid
from typing import Any

from jupyter_server.serverapp import list_running_servers
from websocket import WebSocket, create_connection

PATIENCE = 60  # seconds for one cell


class Server:
    """The one server that runs."""

    def __init__(self) -> None:
        (self.found,) = list_running_servers()
        # Its own address has the name of the machine in it, which may lead nowhere.
        self.address = f"127.0.0.1:{self.found['port']}{self.found['base_url']}api"

    def ask(self, path: str, data: Any = None, method: str | None = None) -> Any:
        """An answer of its REST interface."""
        request = urllib.request.Request(
            f"http://{self.address}/{path}",
            data=None if data is None else json.dumps(data).encode(),
            headers={"Authorization": f"token {self.found['token']}"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def channels(self, kernel: str) -> WebSocket:
        """The way to a kernel."""
        url = f"ws://{self.address}/kernels/{kernel}/channels?token={self.found['token']}"
        return create_connection(url, timeout=PATIENCE)


def execute(channels: WebSocket, code: str) -> list[dict[str, Any]]:
    """The outputs of a cell."""
    number = uuid.uuid4().hex
    header = {"msg_id": number, "msg_type": "execute_request", "session": number, "version": "5.3"}
    message = {"header": {**header, "username": "", "date": ""}, "channel": "shell"}
    content = {"code": code, "silent": False, "store_history": True}
    channels.send(json.dumps({**message, "parent_header": {}, "metadata": {}, "content": content}))
    outputs = []
    while True:
        got = json.loads(channels.recv())
        if got["parent_header"].get("msg_id") != number or got["channel"] != "iopub":
            continue
        if got["msg_type"] == "status" and got["content"]["execution_state"] == "idle":
            return outputs
        outputs.append({"type": got["msg_type"], **got["content"]})


def run(server: Server, name: str) -> dict[str, Any]:
    """A whole notebook in a kernel of its own."""
    kernel = server.ask("kernels", {"name": "python3"})["id"]
    channels = server.channels(kernel)
    outputs = []
    for cell in server.ask(f"contents/{name}")["content"]["cells"]:
        if cell["cell_type"] == "code":
            outputs += execute(channels, cell["source"])
    channels.close()
    server.ask(f"kernels/{kernel}", method="DELETE")
    return {
        "errors": [each["evalue"] for each in outputs if each["type"] == "error"],
        "pictures": sum(
            '<div class="nsdemo ' in each.get("data", {}).get("text/html", "") for each in outputs
        ),
        "text": "".join(each.get("text", "") for each in outputs),
    }


def main() -> None:
    """Run and report."""
    server = Server()
    names = [each["name"] for each in server.ask("contents")["content"]]
    json.dump({name: run(server, name) for name in sorted(names)}, sys.stdout)


if __name__ == "__main__":
    main()
