"""An OCI bundle for runc and crun: the same five-flag container, in their words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write(directory: Path, root: str, user: bool) -> None:
    """Write ``directory``/config.json.

    It is what `runc spec` writes, without the terminal, the network namespace, the cgroup and
    the masked paths. /dev stays, because runtimes put device nodes there, asked or not.
    """
    namespaces = ["pid", "ipc", "uts", "mount"]
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["true"],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
        },
        "root": {"path": root, "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755"],
            },
        ],
        "linux": {},
    }
    if user:
        namespaces.append("user")
        config["linux"]["uidMappings"] = [_only(os.geteuid())]
        config["linux"]["gidMappings"] = [_only(os.getegid())]
    config["linux"]["namespaces"] = [{"type": name} for name in namespaces]
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config, indent=2))


def _only(outside: int) -> dict[str, int]:
    return {"containerID": 0, "hostID": outside, "size": 1}
