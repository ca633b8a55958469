# SPDX-License-Identifier: GPL-2.0-or-later
"""MD5 of executables and other files, of the very file that the kernel ran or read.

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

from probes.event import NO_FILE, UNKNOWN, FileId, HashedFile, ProcessEvent

_CHUNK = 1 << 20


class Digest(NamedTuple):
    """What is known of one file: 32 hex digits or UNKNOWN, and why."""

    md5: str
    status: str


_NO_FILE = Digest(UNKNOWN, UNKNOWN)
"""A process without an executable, such as a kernel thread."""

_TIMEOUT = Digest(UNKNOWN, "timeout")

_RETRY_S = 1.0
_DEAD_MOUNT_S = 30.0
"""After a time-out every event of that file would wait as long again."""

_LASTING = frozenset({"verified", "too_big"})
"""What stays true of a file. That it was gone, denied or replaced is true of one process and one moment."""


_EXECUTABLE = HashedFile("exe_file", "exe", "exe_md5", "exe_hash_status")


class _Wanted(NamedTuple):
    """A file of an event, and where the answer goes."""

    event: ProcessEvent
    fields: HashedFile

    @property
    def key(self) -> bytes:
        key: bytes = getattr(self.event, self.fields.file)
        return key

    @property
    def path(self) -> bytes:
        path: bytes = getattr(self.event, self.fields.path)
        return path

    def paths(self) -> Iterator[bytes]:
        if self.fields is _EXECUTABLE:
            yield b"/proc/%d/exe" % self.event.tgid
        if self.path.startswith(b"/"):
            yield b"/proc/%d/root%s" % (self.event.tgid, self.path)
            yield self.path

    def answer(self, digest: Digest) -> None:
        setattr(self.event, self.fields.md5, digest.md5)
        setattr(self.event, self.fields.status, digest.status)


def _hash_open_file(fd: int, wanted: FileId, max_bytes: int) -> Digest:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return Digest(UNKNOWN, "not_regular")
    if not wanted.is_of(status):
        return Digest(UNKNOWN, "changed")
    if status.st_size > max_bytes:
        return Digest(UNKNOWN, "too_big")
    digest = hashlib.md5(usedforsecurity=False)
    left = status.st_size
    while left > 0 and (chunk := os.read(fd, min(left, _CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    if left or not wanted.is_of(os.fstat(fd)):
        return Digest(UNKNOWN, "changed")
    return Digest(digest.hexdigest(), "verified")


def _hash_file(file: _Wanted, max_bytes: int) -> Digest:
    """Blocks."""
    wanted = FileId.unpack(file.key)
    worst = Digest(UNKNOWN, "gone")
    for path in file.paths():
        follow = 0 if path.startswith(b"/proc/") and path.endswith(b"/exe") else os.O_NOFOLLOW
        try:
            # O_NONBLOCK: a FIFO in the file's place must not hold the worker.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | follow)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EPERM}:
                worst = Digest(UNKNOWN, "denied")
            continue
        try:
            digest = _hash_open_file(fd, wanted, max_bytes)
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
        self._known: dict[bytes, Digest] = {}
        self._failed: dict[bytes, tuple[Digest, float, bool]] = {}
        """What could not be hashed, until when that is not tried again, and whether a path was known."""
        self._hits = self._misses = self._timeouts = self._evictions = 0

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set the digests and their statuses; waits at most `wait_s` for files not seen before."""
        known = self._known
        waiting: dict[bytes, list[_Wanted]] = {}
        others = 0
        for event in events:
            digest = known.get(event.exe_file)
            if digest is not None:
                event.exe_md5, event.exe_hash_status = digest
            elif event.exe_file != NO_FILE:
                waiting.setdefault(event.exe_file, []).append(_Wanted(event, _EXECUTABLE))
            if event.hashed_file is not None:
                others += 1
                other = _Wanted(event, event.hashed_file)
                digest = known.get(other.key)
                if digest is not None:
                    other.answer(digest)
                elif other.key != NO_FILE:
                    waiting.setdefault(other.key, []).append(other)
        missed = sum(map(len, waiting.values()))
        self._misses += missed
        self._hits += len(events) + others - missed
        if waiting:
            await self._hash_all(waiting)

    async def _hash_all(self, waiting: dict[bytes, list[_Wanted]]) -> None:
        now = trio.current_time()
        self._failed = {key: failure for key, failure in self._failed.items() if failure[1] > now}
        if len(self._failed) > self._entries:
            self._failed.clear()
        found: dict[bytes, Digest] = {}
        with trio.move_on_after(self._wait_s):
            async with trio.open_nursery() as nursery:
                for key, files in waiting.items():
                    # One with a path, if any: the processes themselves may be gone.
                    file = next((file for file in files if file.path), files[0])
                    failure = self._failed.get(key)
                    if failure is not None and (failure[2] or not file.path):
                        found[key] = failure[0]
                    else:
                        nursery.start_soon(self._hash_one, key, file, found)
        for key, files in waiting.items():
            digest = found.get(key, _TIMEOUT)
            if key not in found:
                self._timeouts += 1
                self._failed[key] = (_TIMEOUT, now + _DEAD_MOUNT_S, True)
            for file in files:
                file.answer(digest)

    async def _hash_one(self, key: bytes, file: _Wanted, found: dict[bytes, Digest]) -> None:
        # Abandoned after the wait: a dead mount may hold the thread for ever, and its place with it.
        digest = await trio.to_thread.run_sync(
            _hash_file, file, self._max_bytes, abandon_on_cancel=True, limiter=self._limiter
        )
        found[key] = digest
        if digest.status not in _LASTING:
            self._failed[key] = (digest, trio.current_time() + _RETRY_S, bool(file.path))
            return
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
