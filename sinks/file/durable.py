# SPDX-License-Identifier: GPL-2.0-or-later
"""Small blocking operations that the file sink's parts share."""

from __future__ import annotations

import os
from collections import deque
from itertools import islice

_MOST_PIECES = os.sysconf("SC_IOV_MAX")


def write_all(fd: int, *pieces: bytes) -> None:
    """Write all of ``pieces``; on an error part of them may have been written.

    In as few calls as possible: after each, a thread waits for the interpreter, which another may hold for long.

    Raises:
        OSError: as ``os.writev`` does.
    """
    # One call takes 2 GiB at most, and on a nearly full disk only what fits: the next one says why.
    views = deque(memoryview(piece) for piece in pieces if piece)
    while views:
        written = os.writev(fd, list(islice(views, _MOST_PIECES)))
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]


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
