# SPDX-License-Identifier: GPL-2.0-or-later
"""Small blocking operations that the file sink's parts share."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Iterable

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None)

_MOST_PIECES = os.sysconf("SC_IOV_MAX")

_MOST_BYTES = 1 << 20
"""For more, the kernel takes memory in its largest blocks. In a virtual machine these are often not there at the
moment, and having one back from the hypervisor takes longer than writing it."""


def write_all(fd: int, *pieces: bytes) -> None:
    """Write all of ``pieces``; on an error part of them may have been written.

    In few calls: after each, a thread waits for the interpreter, which another may hold for long.

    Raises:
        OSError: as ``os.writev`` does.
    """
    # On a nearly full disk a call takes only what fits: the next one says why.
    views = deque(memoryview(piece) for piece in pieces if piece)
    while views:
        written = os.writev(fd, _one_call(views))
        while views and written >= len(views[0]):
            written -= len(views.popleft())
        if written:
            views[0] = views[0][written:]


def _one_call(views: Iterable[memoryview]) -> list[memoryview]:
    """The first of ``views``, as much as one call is given."""
    some: list[memoryview] = []
    room = _MOST_BYTES
    for view in views:
        some.append(view[:room])
        room -= len(some[-1])
        if not room or len(some) == _MOST_PIECES:
            break
    return some


def begin_writing_back(fd: int, start: int, size: int) -> None:
    """Have the kernel begin to write part of a file to the disk, as sync_file_range(2) does where it can.

    Blocks while the disk is busy. Nothing is promised: a later fsync(2) takes less time, and tells of errors.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


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
