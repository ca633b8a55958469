# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn a finished file into zstd so that a crash at any point loses nothing."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import zstandard

from sinks.file.durable import sync_parent

if TYPE_CHECKING:
    from collections.abc import Callable

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK_BYTES = 1024 * 1024


def compress(path: str, stopped: Callable[[], bool]) -> bool:
    """Replace ``path`` by ``path.zst`` with the same content, owner and mode.

    The plain file goes only once the compressed one is on the disk. Returns False if ``stopped()`` became
    true on the way; the plain file is then as it was.

    Raises:
        OSError: reading or writing failed; the plain file is as it was.
        zstandard.ZstdError: as OSError.
    """
    if stopped():
        return False
    temporary = f"{path}.zst.tmp"
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        target = os.open(temporary, _CREATE, 0o600)
        try:
            done = _copy(source, target, stopped)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
    if not done:
        os.unlink(temporary)
        return False
    os.rename(temporary, f"{path}.zst")
    sync_parent(path)
    os.unlink(path)
    return True


def _copy(source: int, target: int, stopped: Callable[[], bool]) -> bool:
    status = os.fstat(source)
    os.fchmod(target, 0o600)
    compressor = zstandard.ZstdCompressor(write_checksum=True, write_content_size=True)
    with (
        os.fdopen(target, "wb", closefd=False) as raw,
        compressor.stream_writer(raw, size=status.st_size, closefd=False) as writer,
    ):
        while chunk := os.read(source, _CHUNK_BYTES):
            if stopped():
                return False
            writer.write(chunk)
    os.fsync(target)
    # Without the right to give the file its owner, its mode must not open it to this process's group either.
    with contextlib.suppress(PermissionError):
        os.fchown(target, status.st_uid, status.st_gid)
        os.fchmod(target, status.st_mode & 0o777)
    return True
