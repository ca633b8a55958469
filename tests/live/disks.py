# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk so small that a test fills it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A file system of 1 MiB with something large on it that can go."""

    def __init__(self, path: Path, ballast_kib: int) -> None:
        self.path = path
        self.output = path / "events.ndjson"
        self._ballast, self._kib = path / "ballast", ballast_kib

    def fill(self) -> None:
        self._ballast.write_bytes(bytes(self._kib * 1024))

    def relieve(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(path: Path, ballast_kib: int) -> Iterator[Disk]:
    """A tmpfs at `path` with the ballast on it, for the block; needs root."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", path], check=True)
    try:
        disk = Disk(path, ballast_kib)
        disk.fill()
        yield disk
    finally:
        subprocess.run(["umount", path], check=True)
