# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file it is: what the kernel says of it in a record, and what stat(2) says of it later."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

_NR_STATX, _AT_FDCWD, _AT_STATX_DONT_SYNC, _STATX_BASIC_STATS = 332, -100, 0x4000, 0x7FF
_STATX = struct.Struct("<16xI12xQQ48xqI4xqI4x8xII112x")
"""Of ``struct statx``: links, inode, size, times of change and of modification, device."""

_S = 1_000_000_000
_libc = ctypes.CDLL(None, use_errno=True)


class FileId(NamedTuple):
    """``struct hl_file_id``: which file, and which content of it. Rewritten or replaced, it is another."""

    inode: int
    ctime_ns: int
    """Change time since the epoch; nobody can set it."""

    mtime_ns: int
    size: int
    """bytes"""

    device: int
    """In the kernel's encoding (MKDEV: 20 bits of minor)."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileId:
        """The identity of a file by its stat(2)."""
        device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
        return cls(status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, device)

    @classmethod
    def at(cls, path: bytes) -> FileId:
        """The identity of the file at `path` as far as this kernel knows it: a server is not asked, and cannot hang.

        Raises:
            OSError: as stat(2).
        """
        return cls.with_links_at(path)[0]

    @classmethod
    def with_links_at(cls, path: bytes) -> tuple[FileId, int]:
        """As `at`, and how many names the file has: none, if it was removed.

        Raises:
            OSError: as stat(2).
        """
        buffer = ctypes.create_string_buffer(_STATX.size)
        if _libc.syscall(_NR_STATX, _AT_FDCWD, path, _AT_STATX_DONT_SYNC, _STATX_BASIC_STATS, buffer):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        links, inode, size, ctime_s, ctime_ns, mtime_s, mtime_ns, major, minor = _STATX.unpack(buffer)
        return cls(inode, ctime_s * _S + ctime_ns, mtime_s * _S + mtime_ns, size, major << 20 | minor), links

    def is_of(self, status: os.stat_result) -> bool:
        """Whether stat(2) shows this file."""
        return self.is_same(FileId.of(status))

    def is_same(self, found: FileId) -> bool:
        """Whether `found`, which a system call told, is this file.

        The device need not be the same: overlayfs and btrfs show another than the kernel's own.
        """
        return found._replace(device=self.device) == self

    def has_inode_of(self, other: FileId) -> bool:
        """Whether it is that file, whatever became of its content. One that is open, or runs, keeps its inode."""
        return (self.inode, self.device) == (other.inode, other.device)

    def has_content_of(self, other: FileId) -> bool:
        """Whether it is that file with that content, and no more than its names, owner or mode may be others."""
        return self._replace(ctime_ns=other.ctime_ns) == other

    @classmethod
    def unpack(cls, raw: bytes) -> FileId:
        """The identity in 40 bytes of a record."""
        return cls._make(_FILE_ID.unpack(raw))

    def pack(self) -> bytes:
        """As the kernel side holds it."""
        return _FILE_ID.pack(*self)


class CreatedId(NamedTuple):
    """``struct hl_created_id``: a file at the moment when it was created, before anything was written to it."""

    inode: int
    ctime_ns: int
    """When it was created, since the epoch."""

    device: int
    """In the kernel's encoding (MKDEV: 20 bits of minor)."""

    generation: int
    """Tells two files apart that had the same inode number one after the other, where the file system does so."""

    @classmethod
    def unpack(cls, raw: bytes) -> CreatedId:
        """The identity in 24 bytes of a record."""
        return cls._make(_CREATED_ID.unpack(raw))

    def pack(self) -> bytes:
        """As the kernel side holds it."""
        return _CREATED_ID.pack(*self)


_FILE_ID = struct.Struct("<5Q")
_CREATED_ID = struct.Struct("<QQII")

NO_FILE = bytes(_FILE_ID.size)
"""The executable of a process without one, such as a kernel thread."""
