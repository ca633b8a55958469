# SPDX-License-Identifier: GPL-2.0-or-later
"""The first file system of a guest: busybox, init.sh, and modules: for the root over 9p, and for what tests need."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.kernels.debian import Kernel

BUSYBOX = Path("/bin/busybox")
GUEST = Path(__file__).parent / "guest"

_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "xhci_pci", "usb_storage", "overlay")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")

_FOLDER, _FILE, _DEVICE = 0o040755, 0o100755, 0o020600


def write_initramfs(kernel: Kernel, path: Path) -> None:
    """Write the archive (cpio, newc) that the kernel is booted with."""
    modules = list(_in_order(kernel))
    with path.open("wb") as archive:
        entries = _Entries(archive)
        for folder in ("dev", "bin", "modules", "proc", "new"):
            entries.add(folder, _FOLDER)
        entries.add("dev/console", _DEVICE, device=(5, 1))
        entries.add("bin/busybox", _FILE, BUSYBOX.read_bytes())
        for script, place in (("init.sh", "init"), ("main.sh", "main.sh")):
            entries.add(place, _FILE, (GUEST / script).read_bytes())
        for name, content in modules:
            entries.add(f"modules/{name}.ko", _FILE, content)
        entries.add("modules/order", _FILE, "".join(f"{name}\n" for name, _ in modules).encode())
        entries.add("TRAILER!!!", 0)


def _in_order(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """The modules and those that they need, these first; what the kernel has built in is no file."""
    paths = {_name(path): path for path in (kernel.modules / "kernel").rglob("*.ko*")}
    seen: set[str] = set()

    def add(name: str) -> Iterator[tuple[str, bytes]]:
        if name in seen or name not in paths:
            return
        seen.add(name)
        content = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            content = lzma.decompress(content)
        depends = _DEPENDS.search(content)
        for other in depends[1].decode().split(",") if depends else ():
            yield from add(other.replace("-", "_"))
        yield name, content

    for wanted in _MODULES:
        yield from add(wanted)


def _name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


class _Entries:
    """Writes cpio's newc format: a header of hexadecimal numbers, the name, the content, each padded to 4 bytes."""

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._count = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        path = name.encode() + b"\0"
        numbers = (self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
        for part in (header, content):
            self._archive.write(part + b"\0" * (-len(part) % 4))
