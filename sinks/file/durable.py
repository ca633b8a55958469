# SPDX-License-Identifier: GPL-2.0-or-later
"""Small blocking operations that the file sink's parts share."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; on an error part of it may have been written.

    Raises:
        OSError: as ``os.write`` does.
    """
    # One write call takes 2 GiB at most, and on a nearly full disk only what fits: the next call says why.
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_path(path: str) -> None:
    """Force a file's data, or a directory's entries, to the disk.

    Raises:
        OSError: it cannot be opened or synced.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_parent(path: str) -> None:
    """Force to the disk that ``path`` exists, or does no more.

    Raises:
        OSError: its directory cannot be opened or synced.
    """
    # Not sync_path: the directory itself may well be reached through a symbolic link.
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
