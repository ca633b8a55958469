# SPDX-License-Identifier: GPL-2.0-or-later
"""The file that lines are appended to, batch by batch, each whole or not at all."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sinks.file.durable import sync_parent, write_all
from sinks.file.opening import lock, open_regular, unlock
from sinks.protocol import SinkError, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sinks.file.config import FileConfig
    from sinks.file.counters import Counters
    from sinks.file.shelf import Shelf

_CLOSED = -1


class LogFile:
    """Blocking, and not thread-safe: its owner sees to it that one call runs at a time."""

    def __init__(self, config: FileConfig, shelf: Shelf, counters: Counters, now: Callable[[], float]) -> None:
        self._config = config
        self._shelf = shelf
        self._counters = counters
        self._now = now
        self._fd = _CLOSED
        self._period = 0
        self._cut_to: int | None = None
        self._torn = False
        self.size = 0
        """Bytes in the current file after the last append."""
        self.unsynced = False
        """Whether the current file has lines that no fsync has covered."""
        self.rotated = False
        """Whether the shelf has a file that its owner has not been told of; the owner sets it back."""

    def open(self) -> None:
        """Open or create the file; if this fails, the one open before stays so.

        Raises:
            SinkError: it cannot be opened; one sentence with the remedy.
        """
        fd, created = open_regular(self._config.path)
        try:
            status = os.fstat(fd)
            torn = status.st_size > 0 and os.pread(fd, 1, status.st_size - 1) != b"\n"
            if created and self._config.fsync != "never":
                sync_parent(self._config.path)
        except OSError as error:
            os.close(fd)
            problem = f"{self._config.path}: {os.strerror(error.errno or 0)}"
            raise SinkError(f"{problem}; check the disk or choose another path") from error
        self._fd, self._torn, self._cut_to, self.unsynced = fd, torn, None, False
        self.size = status.st_size
        # Lines of an earlier process: whichever period it last wrote in, none of them is from a later one.
        self._period = self._period_of(status.st_mtime)

    def append(self, pieces: Sequence[bytes], lines: int) -> None:
        """Append a batch, in a fresh file if the current one is full or from an earlier period.

        Raises:
            SinkUnavailable: the file is as it was before.
        """
        size = sum(map(len, pieces))
        try:
            before = self._prepare(size)
            self._write(pieces, before)
        except (OSError, SinkError) as error:
            self._counters.write_errors += 1
            raise SinkUnavailable(_reason(error)) from error
        self.size = before + size
        self.unsynced = self._config.fsync != "always"
        self._counters.batches += 1
        self._counters.lines += lines
        self._counters.bytes += size

    def overdue(self) -> bool:
        """Whether the file holds lines from an earlier period. Does not block."""
        return self.size > 0 and self._period != self._period_of(self._now())

    def rotate_overdue(self) -> None:
        """Rotate the file if it is overdue; failure is counted, not raised."""
        try:
            self._prepare(0)
        except (OSError, SinkError):
            self._counters.rotate_errors += 1

    def reopen(self) -> None:
        """Open the path anew, whatever has become of the file that was open.

        Raises:
            SinkError: it cannot be opened; the file that was open stays in use.
        """
        old, unsynced = self._fd, self.unsynced
        if old == _CLOSED:
            self.open()
            self._counters.reopens += 1
            return
        with contextlib.suppress(OSError):
            self._repair()
        # The path may still lead to this very file, which would then be found in use by ourselves.
        unlock(old)
        try:
            self.open()
        except SinkError:
            with contextlib.suppress(BlockingIOError):
                lock(old)
            raise
        self._counters.reopens += 1
        self._let_go(old, unsynced)

    def close(self) -> None:
        """Sync as configured, and close; nothing to do if it is closed already."""
        if self._fd != _CLOSED:
            with contextlib.suppress(OSError):
                self._repair()
            fd, self._fd = self._fd, _CLOSED
            self._let_go(fd, self.unsynced)

    def duplicate(self) -> int | None:
        """A descriptor of the current file, to be closed; None if none is open. Raises OSError."""
        return None if self._fd == _CLOSED else os.dup(self._fd)

    def _prepare(self, incoming: int) -> int:
        """Have the right file open and whole; return its size, to which ``incoming`` may be added."""
        status = None if self._fd == _CLOSED else os.fstat(self._fd)
        if status is None or status.st_nlink == 0:
            self.close()
            self.open()
            self._counters.reopens += 1
            status = os.fstat(self._fd)
        if self._torn or self._cut_to is not None:
            self._repair()
            status = os.fstat(self._fd)
        self.size = status.st_size
        limit = self._config.rotate_bytes
        if self.size and (self.overdue() or 0 < limit < self.size + incoming):
            self._rotate(status)
        if self.size == 0:
            self._period = self._period_of(self._now())
        return self.size

    def _rotate(self, status: os.stat_result) -> None:
        moved = False
        try:
            with contextlib.suppress(FileNotFoundError):
                # If somebody moved our file away, it is rotated already, and what is at the path is not ours.
                if os.path.samestat(status, os.lstat(self._config.path)):
                    self._shelf.take()
                    moved = True
        except OSError:
            # A directory without room for another name, say: a file too big is better than lines lost.
            self._counters.rotate_errors += 1
            return
        fd, self._fd = self._fd, _CLOSED
        # The shelf syncs what it was given, so that this batch need not wait for it.
        self._let_go(fd, self.unsynced and not moved)
        if moved:
            self.rotated = True
            self._counters.rotations += 1
        else:
            self._counters.reopens += 1
        self.open()

    def _write(self, pieces: Sequence[bytes], before: int) -> None:
        try:
            write_all(self._fd, *pieces)
            if self._config.fsync == "always":
                os.fsync(self._fd)
                self._counters.fsyncs += 1
        except OSError:
            self._cut_to = before
            with contextlib.suppress(OSError):
                self._repair()
            raise

    def _repair(self) -> None:
        """Take away what a failed batch left, and end the line that a crash left.

        Raises:
            OSError: not possible now; to be tried again before anything is appended.
        """
        if self._cut_to is not None:
            # Never longer: somebody may have emptied the file meanwhile.
            os.ftruncate(self._fd, min(self._cut_to, os.fstat(self._fd).st_size))
            self._cut_to = None
        if self._torn:
            write_all(self._fd, b"\n")
            self._torn = False

    def _let_go(self, fd: int, unsynced: bool) -> None:
        unlock(fd)
        try:
            if unsynced and self._config.fsync != "never":
                os.fsync(fd)
                self._counters.fsyncs += 1
        except OSError:
            self._counters.fsync_errors += 1
        finally:
            os.close(fd)

    def _period_of(self, seconds: float) -> int:
        span = self._config.rotate_age_s
        return int(seconds // span) if span else 0


def _reason(error: Exception) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
