# SPDX-License-Identifier: GPL-2.0-or-later
"""MD5 of executables, of the very file that the kernel ran.

The kernel's record names the file by device, inode, change time, modification
time and size. Whatever path the file is opened by, it is hashed only if it
still is that file, before and after reading; so a digest is never another
file's, and the cache needs no age.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import trio

from probes.event import UNKNOWN, ProcessEvent

_CHUNK = 1 << 20

FileKey = tuple[int, int, int, int, int]
"""device (kernel encoding), inode, ctime in ns, mtime in ns, size in bytes"""


class Digest(NamedTuple):
    """What is known of one file: 32 hex digits or UNKNOWN, and why."""

    md5: str
    status: str


_NO_FILE = Digest(UNKNOWN, UNKNOWN)
"""A process without an executable, such as a kernel thread."""

_TIMEOUT = Digest(UNKNOWN, "timeout")


def _key(status: os.stat_result) -> FileKey:
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)
    return device, status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size


def _same_file(status: os.stat_result, key: FileKey) -> bool:
    """Whether this is the kernel's file.

    overlayfs and btrfs show another device than the kernel's own; the change
    time to the nanosecond, which nobody can set, and the rest then decide.
    """
    device, inode, *rest = _key(status)
    return rest == list(key[2:]) and (inode == key[1] or device != key[0])


def _paths(event: ProcessEvent) -> Iterator[bytes]:
    yield b"/proc/%d/exe" % event.tgid
    if event.exe.startswith(b"/"):
        yield b"/proc/%d/root%s" % (event.tgid, event.exe)
        yield event.exe


def _hash_open_file(fd: int, key: FileKey, max_bytes: int) -> Digest:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return Digest(UNKNOWN, "not_regular")
    if not _same_file(status, key):
        return Digest(UNKNOWN, "changed")
    if status.st_size > max_bytes:
        return Digest(UNKNOWN, "too_big")
    digest = hashlib.md5(usedforsecurity=False)
    left = status.st_size
    while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    if left or not _same_file(os.fstat(fd), key):
        return Digest(UNKNOWN, "changed")
    return Digest(digest.hexdigest(), "verified")


def hash_executable(event: ProcessEvent, key: FileKey, max_bytes: int) -> Digest:
    """Hash the executable of `event`; blocks."""
    worst = Digest(UNKNOWN, "gone")
    for path in _paths(event):
        follow = 0 if path.startswith(b"/proc/") and path.endswith(b"/exe") else os.O_NOFOLLOW
        try:
            # O_NONBLOCK: a FIFO in the file's place must not hold the worker.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | follow)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM}:
                worst = Digest(UNKNOWN, "denied")
            continue
        try:
            digest = _hash_open_file(fd, key, max_bytes)
        except OSError:
            continue
        finally:
            os.close(fd)
        if digest.status in {"verified", "too_big"}:
            return digest
        if worst.status == "gone":
            worst = digest
    return worst


class Hashes:
    """Digests by file key, the oldest forgotten first."""

    def __init__(self, *, entries: int, max_bytes: int, wait_s: float, workers: int) -> None:
        self._entries = entries
        self._max_bytes = max_bytes
        self._wait_s = wait_s
        self._limiter = trio.CapacityLimiter(workers)
        self._known: dict[FileKey, Digest] = {}
        self._hits = self._misses = self._timeouts = self._evictions = 0

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `exe_md5` and `exe_hash_status`; waits at most `wait_s` for files not seen before."""
        known = self._known
        waiting: dict[FileKey, list[ProcessEvent]] = {}
        for event in events:
            key = (event.exe_device, event.exe_inode, event.exe_ctime, event.exe_mtime, event.exe_size)
            digest = known.get(key)
            if digest is not None:
                event.exe_md5, event.exe_hash_status = digest
            elif event.exe_inode:
                waiting.setdefault(key, []).append(event)
        missed = sum(map(len, waiting.values()))
        self._misses += missed
        self._hits += len(events) - missed
        if waiting:
            await self._hash_all(waiting)

    async def _hash_all(self, waiting: dict[FileKey, list[ProcessEvent]]) -> None:
        with trio.move_on_after(self._wait_s):
            async with trio.open_nursery() as nursery:
                for key, events in waiting.items():
                    nursery.start_soon(self._hash_one, key, events[0])
        for key, events in waiting.items():
            digest = self._known.get(key, _TIMEOUT)
            self._timeouts += digest is _TIMEOUT
            for event in events:
                event.exe_md5, event.exe_hash_status = digest

    async def _hash_one(self, key: FileKey, event: ProcessEvent) -> None:
        # Abandoned after the wait: a dead mount may hold the thread for ever, and its place with it.
        digest = await trio.to_thread.run_sync(
            hash_executable, event, key, self._max_bytes, abandon_on_cancel=True, limiter=self._limiter
        )
        while len(self._known) >= self._entries:
            del self._known[next(iter(self._known))]
            self._evictions += 1
        self._known[key] = digest

    def statistics(self) -> Mapping[str, int]:
        return {
            "entries": len(self._known),
            "hits": self._hits,
            "misses": self._misses,
            "timeouts": self._timeouts,
            "evictions": self._evictions,
            "workers_busy": self._limiter.borrowed_tokens,
        }
