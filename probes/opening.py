# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening what others control: a path that stays in its root, and nothing but regular files."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

_NR_OPENAT2 = 437
"""x86-64."""

NO_MAGICLINKS, NO_SYMLINKS, IN_ROOT = 0x02, 0x04, 0x10
"""RESOLVE_* of linux/openat2.h."""

_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


class NotRegular(OSError):
    """There is something else than a regular file."""


def open_in_root(root: int | None, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2): `path` as seen from the directory `root`; None: from this process's.

    Raises:
        OSError: as open(2); ELOOP or EXDEV where `resolve` forbids the way.
    """
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, resolve)
    name = ctypes.create_string_buffer(path)
    fd = int(_libc.syscall(_NR_OPENAT2, _AT_FDCWD if root is None else root, name, how, len(how)))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return fd


def readable(place: int) -> tuple[int, os.stat_result]:
    """A readable descriptor of the file that the O_PATH descriptor `place` is of, which is closed, and fstat(2) of it.

    By way of O_PATH, since already to open a device or a FIFO may set something off.

    Raises:
        NotRegular: it is no regular file.
        OSError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise NotRegular(0, "not a regular file")
        # By the open descriptor: whatever happened to the path meanwhile, it is this file.
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        return fd, os.fstat(fd)
    except OSError:  # of a network's file system that went away just now
        os.close(fd)
        raise
