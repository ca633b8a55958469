# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding, opening and hashing one file; everything here blocks, and runs in a worker (`pipeline.enrich.workers`).

The kernel's record names an executable by device, inode, change time, modification time and size. Whatever path it
is opened by, it is hashed only if it still is that file, before and after reading; so a digest is never another
file's. A file that was just created is named by inode, time of its creation and generation: what was written to it
since is what is wanted.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from probes.event import UNKNOWN
from probes.identity import CreatedId, FileId
from probes.opening import IN_ROOT, NO_SYMLINKS, NotRegular, open_in_root, readable

_CHUNK = 1 << 20

_LEAST = 16 << 10
"""Bytes that a file counts at least: opening a small one costs as much as hashing these."""

_SPARE = 0.5
"""Share of the budget that new files, which any user can make many, leave to executables."""

_MOST_DESCRIPTORS = 256
"""Of its creator that are looked at, to see whether one still writes to a file."""

_GETVERSION = 0x80087601
"""FS_IOC_GETVERSION of linux/fs.h."""

_NR_STATX, _AT_EMPTY_PATH, _STATX_BTIME = 332, 0x1000, 0x800
_BIRTH = struct.Struct("<I76xqI")
"""Of ``struct statx``: what is known, and the time of birth."""

_CLOCK_NS = 20_000_000
"""More than a tick of the clock that file systems take their times from."""

_libc = ctypes.CDLL(None, use_errno=True)

Progress = Callable[[], None]
"""Called when the file system has answered."""


class Digest(NamedTuple):
    """What is known of one file: hex digits or UNKNOWN, and why."""

    md5: str = UNKNOWN
    status: str = UNKNOWN
    sha256: str = UNKNOWN

    identity: bytes = b""
    """The `FileId`, packed, of what this stays true of. That a file was gone, denied or replaced is true of one process
    and one moment."""


class Place(NamedTuple):
    """Where to look for a file."""

    tgid: int
    key: bytes
    """Its identity, packed."""

    identity: FileId | CreatedId
    path: bytes
    """In the mount namespace of `tgid`; may be empty."""

    is_executable: bool = False
    """Whether it is what `tgid` runs."""

    fd: int = -1
    """The descriptor that `tgid` created it with."""

    @property
    def size(self) -> int:
        """Bytes, as far as they are known."""
        return self.identity.size if isinstance(self.identity, FileId) else 0


class Budget:
    """At most so many bytes a second, after a second's worth at once; for any thread."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._left = float(per_s)
        self._at = time.monotonic()
        self._lock = threading.Lock()
        self.spent = 0

    def take(self, size: int, *, spare: float = 0.0) -> bool:
        """Whether a file of `size` bytes may be hashed. A large one may take what the next ones would need.

        `spare`: the share of a second's worth that is left to others.
        """
        with self._lock:
            now = time.monotonic()
            self._left = min(self._per_s, self._left + (now - self._at) * self._per_s)
            self._at = now
            if self._left <= self._per_s * spare:
                return False
            self._left -= max(size, _LEAST)
            self.spent += size
            return True


class Hasher:
    """Hashes what is open."""

    def __init__(self, *, max_bytes: int, sha256: bool, budget: Budget) -> None:
        self._max_bytes = max_bytes
        self._sha256 = sha256
        self.budget = budget

    def known_file(self, place: Place, progress: Progress) -> Digest:
        """The digest of the very file that a `FileId` names, wherever it is found."""
        identity = place.identity
        assert isinstance(identity, FileId)
        found = _found(place, lambda _fd, status: identity.is_of(status))
        if isinstance(found, Digest):
            return found
        fd, status = found
        progress()
        try:
            return self._open_file(fd, status, place.key, progress)
        finally:
            os.close(fd)

    def closed_file(self, fd: int, progress: Progress) -> Digest:
        """The digest of an open file that nobody writes to any more; closes it."""
        try:
            status = os.fstat(fd)
            return self._open_file(fd, status, FileId.of(status).pack(), progress, spare=_SPARE)
        except OSError:
            return Digest(status="gone")
        finally:
            os.close(fd)

    def _open_file(
        self, fd: int, before: os.stat_result, identity: bytes, progress: Progress, *, spare: float = 0.0
    ) -> Digest:
        if before.st_size > self._max_bytes:
            return Digest(status="too_big", identity=identity)
        if not self.budget.take(before.st_size, spare=spare):
            return Digest(status="rate_limited")
        digests = [hashlib.md5(usedforsecurity=False)]
        if self._sha256:
            digests.append(hashlib.sha256())
        left = before.st_size
        try:
            while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
                progress()
                for digest in digests:
                    digest.update(chunk)
                left -= len(chunk)
            changed = left or not FileId.of(before).is_of(os.fstat(fd))
        except OSError:
            return Digest(status="gone")
        if changed:
            return Digest(status="changed")
        hexes = [digest.hexdigest() for digest in digests]
        return Digest(hexes[0], "verified", hexes[1] if self._sha256 else UNKNOWN, identity)


def open_created(place: Place) -> tuple[int, os.stat_result] | Digest:
    """A readable descriptor of a file that was just created; or why there is none."""
    identity = place.identity
    assert isinstance(identity, CreatedId)
    return _found(place, lambda fd, status: _is_created(fd, status, identity))


def _found(place: Place, is_it: Callable[[int, os.stat_result], bool]) -> tuple[int, os.stat_result] | Digest:
    """The first of what lies where the file may be that is the file; or why there is none."""
    worst = Digest(status="gone")
    for opened in _opened(place):
        if isinstance(opened, Digest):
            worst = opened if worst.status == "gone" else worst
            continue
        fd, status = opened
        if is_it(fd, status):
            return fd, status
        os.close(fd)
        worst = Digest(status="changed")
    return worst


def is_written(place: Place, file: os.stat_result) -> bool:
    """Whether the process that created `file` has it open for writing, on whatever descriptor.

    It reads /proc alone, and what the kernel knows, so that no file system can hold it up.
    """
    if place.fd >= 0 and _writes(place.tgid, place.fd, file):
        return True
    try:
        numbers = sorted(map(int, os.listdir(f"/proc/{place.tgid}/fd")))
    except OSError:
        return False
    return any(_writes(place.tgid, number, file) for number in numbers[:_MOST_DESCRIPTORS])


def _writes(tgid: int, number: int, file: os.stat_result) -> bool:
    try:
        with open(f"/proc/{tgid}/fdinfo/{number}", "rb", buffering=0) as info:
            found = dict(line.split(b":\t", 1) for line in info.read(4096).splitlines() if b":\t" in line)
        # The inode's number, which Linux 5.14 and later tell, spares most descriptors the second look.
        if int(found[b"flags"], 8) & os.O_ACCMODE == os.O_RDONLY or int(found.get(b"ino", file.st_ino)) != file.st_ino:
            return False
        is_open, is_created = FileId.at(b"/proc/%d/fd/%d" % (tgid, number)), FileId.of(file)
    except OSError:
        return False
    return (is_open.device, is_open.inode) == (is_created.device, is_created.inode)


def _opened(place: Place) -> Iterator[tuple[int, os.stat_result] | Digest]:
    """What is at each place where the file may be: a readable descriptor, or why it cannot be read."""
    for way in _ways(place):
        try:
            found = readable(way())
        except NotRegular:
            yield Digest(status="not_regular")
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM}:
                yield Digest(status="denied")
        else:
            yield found


def _ways(place: Place) -> Iterator[Callable[[], int]]:
    """Each gives an O_PATH descriptor."""
    if place.is_executable:
        yield lambda: os.open(f"/proc/{place.tgid}/exe", os.O_PATH | os.O_CLOEXEC)
    if place.fd >= 0:
        yield lambda: os.open(f"/proc/{place.tgid}/fd/{place.fd}", os.O_PATH | os.O_CLOEXEC)
    if place.path.startswith(b"/"):
        yield lambda: _open_in_root_of(place)
        # The kernel walked it: there is no link in it, unless somebody put it there since.
        yield lambda: open_in_root(None, place.path, os.O_PATH | os.O_NOFOLLOW, NO_SYMLINKS)


def _open_in_root_of(place: Place) -> int:
    root = os.open(f"/proc/{place.tgid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root, place.path, os.O_PATH | os.O_NOFOLLOW, NO_SYMLINKS | IN_ROOT)
    finally:
        os.close(root)


def _is_created(fd: int, status: os.stat_result, wanted: CreatedId) -> bool:
    if status.st_ino != wanted.inode:
        return False
    born = _birth_ns(fd)
    if FileId.of(status).device != wanted.device:
        # overlayfs and btrfs show another device than the kernel's own.
        return born is not None and wanted.ctime_ns - _CLOCK_NS <= born <= wanted.ctime_ns
    generation = _generation(fd)
    if generation is not None and generation != wanted.generation:
        return False
    return born is None or born <= wanted.ctime_ns


def _birth_ns(fd: int) -> int | None:
    """When a file was created, since the epoch; None where its file system does not say."""
    buffer = ctypes.create_string_buffer(256)
    if _libc.syscall(_NR_STATX, fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer):
        return None
    mask, seconds, nanoseconds = _BIRTH.unpack_from(buffer)
    return seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else None


def _generation(fd: int) -> int | None:
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, _GETVERSION, buffer)
    except OSError:
        return None
    return int.from_bytes(buffer[:4], "little")
