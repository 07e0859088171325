"""The first files of the guest: modules of its kernel, busybox, and a script that mounts the rest.

The rest is the machine that this runs on: its files, read-only, under a layer in memory that
takes what the guest writes. So nothing has to be copied, and nothing here can change.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "veth")
HOST, RESULTS = "host", "results"  # what the two shares are called

INIT = """\
#!/bin/busybox sh
bb=/bin/busybox
stop() { echo "guest: $1"; $bb poweroff -f; }
$bb mkdir /proc /low /memory /new
$bb mount -t proc proc /proc
for module in /modules/*; do $bb insmod $module || stop "cannot load $module"; done
share=trans=virtio,version=9p2000.L,msize=512000
$bb mount -t 9p -o ro,cache=loose,$share %(host)s /low || stop "no files of the host"
$bb mount -t tmpfs -o mode=755 memory /memory
$bb mkdir /memory/upper /memory/work
$bb mount -t overlay -o lowerdir=/low,upperdir=/memory/upper,workdir=/memory/work root /new ||
    stop "no overlay"
for name in proc sys dev run; do $bb mkdir -p /new/$name; done
$bb mount -t proc -o nosuid,nodev,noexec proc /new/proc
$bb mount -t sysfs -o nosuid,nodev,noexec sysfs /new/sys
$bb mount -t devtmpfs -o nosuid devices /new/dev
$bb mount -t tmpfs -o nosuid,nodev,mode=755 run /new/run
$bb mkdir -p /new/dev/pts /new/dev/shm /new/dev/mqueue /new/run/results
$bb mount -t devpts -o nosuid,noexec,ptmxmode=666,mode=620 devpts /new/dev/pts
$bb mount -t tmpfs -o nosuid,nodev,mode=1777 shm /new/dev/shm
$bb mount -t mqueue mqueue /new/dev/mqueue
$bb mount -t 9p -o $share %(results)s /new/run/results || stop "nowhere for results"
$bb mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /new/sys/fs/cgroup
$bb umount /proc
exec $bb switch_root /new %(python)s %(script)s %(arguments)s
"""


def _modules(folder: Path, wanted: Iterable[str]) -> list[Path]:
    """The files of these modules and of those that they need, in the order of loading."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    found: list[Path] = []

    def add(name: str) -> None:
        path = files[name]  # one that is built into the kernel is in no list of needs
        if path in found:
            return
        needs = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for need in needs[1].decode().split(",") if needs else ():
            if need:
                add(need.replace("-", "_"))
        found.append(path)

    for name in wanted:
        add(name)
    return found


def _entry(name: str, mode: int, content: bytes, number: int) -> bytes:
    """A file in a cpio archive, in the form "newc"."""
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def make(kernel: Path, python: str, script: str, arguments: list[str]) -> bytes:
    """The archive; ``kernel`` is the folder with the unpacked package.

    Raises FileNotFoundError without busybox, KeyError for a module that the kernel lacks.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("there is no busybox (on Debian: apt-get install busybox-static)")
    words = " ".join(f"'{word}'" for word in arguments)
    init = INIT % {
        "host": HOST,
        "results": RESULTS,
        "python": python,
        "script": script,
        "arguments": words,
    }
    files: list[tuple[str, int, bytes]] = [
        ("bin", 0o40755, b""),
        ("dev", 0o40755, b""),
        ("modules", 0o40755, b""),
        ("init", 0o100755, init.encode()),
    ]
    with open(busybox, "rb") as file:
        files.append(("bin/busybox", 0o100755, file.read()))
    modules = _modules(kernel / "lib" / "modules", MODULES)
    for i, path in enumerate(modules):
        files.append((f"modules/{i:02}-{path.name}", 0o100644, path.read_bytes()))
    files.append(("TRAILER!!!", 0, b""))
    return b"".join(_entry(*file, number) for number, file in enumerate(files, 1))
