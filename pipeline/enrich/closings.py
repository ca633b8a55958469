# SPDX-License-Identifier: GPL-2.0-or-later
"""Being told when a file that is open for writing is closed: inotify(7), one watch a file, for one close.

No tracepoint tells of the last close of a file. A lease (F_SETLEASE) would say for sure that nobody writes, but while
one is held, others wait to open the file, and to be seen by whom one watches is out of the question. A watch is seen
by nobody, works on every file system, and needs no privilege.
"""

from __future__ import annotations

import ctypes
import os
import struct

_IN_CLOSE_WRITE, _IN_ONESHOT = 0x08, 0x80000000
_libc = ctypes.CDLL(None, use_errno=True)
_EVENT = struct.Struct("<iIII")
_BYTES = 64 << 10


class Closings:
    """An inotify instance."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def add(self, fd: int) -> int:
        """Watch the file that is open as `fd`; gives the watch's number, or -1 where no more can be watched."""
        name = b"/proc/self/fd/%d" % fd
        return int(_libc.inotify_add_watch(self.fd, name, ctypes.c_uint32(_IN_CLOSE_WRITE | _IN_ONESHOT)))

    def remove(self, watch: int) -> None:
        """Watch no more; nothing happens if it is over."""
        _libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[int]:
        """The watches whose file was closed since the last call."""
        try:
            data = os.read(self.fd, _BYTES)
        except BlockingIOError:
            return []
        watches: list[int] = []
        at = 0
        while at < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
            if mask & _IN_CLOSE_WRITE:
                watches.append(watch)
            at += _EVENT.size + length
        return watches

    def close(self) -> None:
        os.close(self.fd)
