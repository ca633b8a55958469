# SPDX-License-Identifier: GPL-2.0-or-later
"""Executables for tests of the hashes."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

from pipeline.enrich.hashes import Hashes
from probes.event import FileId
from probes.process.exit import Exit
from tests.unit.pipeline.samples import made

NOBODY = (1 << 22) + 1
"""A pid above what Linux gives to any process."""


def new_hashes(*, entries: int = 100, max_bytes: int = 1 << 30, wait_s: float = math.inf, workers: int = 2) -> Hashes:
    """Hashes that wait for as long as it takes."""
    return Hashes(entries=entries, max_bytes=max_bytes, wait_s=wait_s, workers=workers)


def executable(path: Path, content: bytes = b"#!/bin/true\n") -> Path:
    """A file at `path`."""
    path.write_bytes(content)
    return path


def identity(path: Path) -> bytes:
    """What the kernel's record says of the file that is at `path` now."""
    return FileId.of(os.stat(path)).pack()


def run_of(path: Path, *, tgid: int = NOBODY, named: Path | None = None) -> Exit:
    """An event of a process that runs `path`, which the process tree knows as `named`; it is gone by now."""
    event = made(Exit, tgid=tgid, exe_file=identity(path))
    event.exe = os.fsencode(named or path)
    return event


def md5(content: bytes) -> str:
    """MD5 in hex digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


async def told(hashes: Hashes, *events: Exit) -> list[tuple[str, str]]:
    """MD5 and status of each event."""
    await hashes.enrich(list(events))
    return [(event.exe_md5, event.exe_hash_status) for event in events]
