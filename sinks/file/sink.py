# SPDX-License-Identifier: GPL-2.0-or-later
"""The file sink as the pipeline sees it: every blocking call in a worker thread."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING

import trio

from sinks.file.counters import Counters
from sinks.file.durable import begin_writing_back
from sinks.file.log import LogFile
from sinks.file.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from sinks.file.config import FileConfig
    from sinks.protocol import Batch, Sink

# An append, an fsync, writing back and a compression may each hold one; more never run at a time.
_THREADS = 4

_MUCH = 8 << 20
"""Bytes that are worth a thread's turn, and that a disk takes in a moment."""

_LOOK_AT_CLOCK_S = 60.0
_SHORTEST_SLEEP_S = 0.01


@contextlib.asynccontextmanager
async def open_sink(config: FileConfig, *, now: Callable[[], float] = time.time) -> AsyncIterator[Sink]:
    """Append to ``config.path`` until the context is left, which syncs and closes the file.

    Leaving does not wait for compression: what is not finished is left to the next start. ``now`` is the
    clock for rotation: seconds since the epoch. An exception from the body arrives in an ``ExceptionGroup``,
    since the sink's background tasks live in a nursery.

    Raises:
        SinkError: the file cannot be opened; one sentence with the remedy.
    """
    counters = Counters()
    shelf = Shelf(config, counters, now)
    log = LogFile(config, shelf, counters, now)
    limiter = trio.CapacityLimiter(_THREADS)
    sink = FileSink(config, log, shelf, counters, limiter, now)
    await trio.to_thread.run_sync(_open, log, shelf, limiter=limiter)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.tend_forever)
            if config.fsync == "interval":
                nursery.start_soon(sink.sync_forever)
                nursery.start_soon(sink.write_back_forever)
            if config.rotate_age_s:
                nursery.start_soon(sink.watch_age_forever)
            try:
                yield sink
            finally:
                shelf.stop()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, log, shelf, limiter=limiter)


def _open(log: LogFile, shelf: Shelf) -> None:
    # If this is not possible, the sentence that opening then gives is the better one.
    with contextlib.suppress(OSError, ValueError):
        shelf.complete()
    log.open()


def _close(log: LogFile, shelf: Shelf) -> None:
    log.close()
    # Stopped, it compresses nothing, but a file that was rotated just now is synced and counted.
    shelf.tend()


class FileSink:
    """Made by ``open_sink``."""

    def __init__(
        self,
        config: FileConfig,
        log: LogFile,
        shelf: Shelf,
        counters: Counters,
        limiter: trio.CapacityLimiter,
        now: Callable[[], float],
    ) -> None:
        self._config = config
        self._log = log
        self._shelf = shelf
        self._counters = counters
        self._limiter = limiter
        self._now = now
        self._turn = trio.Lock()
        self._untended = trio.Event()
        # An earlier process may have left files half done.
        self._untended.set()
        self._begun = 0
        """Bytes of the current file that the disk has been given."""
        self._much = trio.Event()

    async def deliver(self, batch: Batch) -> None:
        """Append the batch; with ``fsync = "always"`` it is on the disk on return.

        Cancelled before its turn, it has done nothing; after, it finishes and returns.

        Raises:
            SinkUnavailable: nothing of the batch is in the file.
        """
        pieces = batch.pieces(self._config.schema)
        async with self._turn:
            try:
                await trio.to_thread.run_sync(self._log.append, pieces, len(batch), limiter=self._limiter)
            finally:
                self._note_rotation()
            if self._log.size < self._begun:  # it is another file, or was emptied
                self._begun = 0
            if self._log.size >= self._begun + _MUCH:
                self._much.set()

    async def reopen(self) -> None:
        """Close the file and open the path anew, as logrotate wants it.

        Raises:
            SinkError: it cannot be opened; the file that was open stays in use.
        """
        async with self._turn:
            await trio.to_thread.run_sync(self._log.reopen, limiter=self._limiter)

    def statistics(self) -> Mapping[str, int]:
        """The fields of ``Counters``, and ``file_bytes``: the size of the current file."""
        return {**dataclasses.asdict(self._counters), "file_bytes": self._log.size}

    async def tend_forever(self) -> None:
        """Compress and delete rotated files, at the start and after each rotation."""
        while True:
            await self._untended.wait()
            self._untended = trio.Event()
            await trio.to_thread.run_sync(self._shelf.tend, limiter=self._limiter)

    async def sync_forever(self) -> None:
        """Sync every ``fsync_interval_s``, without keeping batches from being written meanwhile."""
        while True:
            await trio.sleep(self._config.fsync_interval_s)
            async with self._turn:
                try:
                    fd = self._log.duplicate() if self._log.unsynced else None
                except OSError:  # the next time may see to it, or closing the file will
                    self._counters.fsync_errors += 1
                    continue
                self._log.unsynced = False
            if fd is None:
                continue
            try:
                # Shielded: the duty to sync has been taken over, so closing the file will not see to it.
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(os.fsync, fd, limiter=self._limiter)
                self._counters.fsyncs += 1
            except OSError:
                self._counters.fsync_errors += 1
            finally:
                os.close(fd)

    async def write_back_forever(self) -> None:
        """Let the disk begin with what it would be given at the next sync, so that this finds little left to do."""
        while True:
            await self._much.wait()
            self._much = trio.Event()
            async with self._turn:
                start, end, fd = self._begun, self._log.size, None
                with contextlib.suppress(OSError):  # nothing is lost by it
                    fd = self._log.duplicate() if end - start >= _MUCH else None
            if fd is None:
                continue
            self._begun = end
            try:
                with trio.CancelScope(shield=True):  # the thread would go on with a descriptor that is closed
                    await trio.to_thread.run_sync(begin_writing_back, fd, start, end - start, limiter=self._limiter)
            finally:
                os.close(fd)

    async def watch_age_forever(self) -> None:
        """Rotate the file at the end of its period even if no batch comes."""
        span = self._config.rotate_age_s
        while True:
            # Not one long sleep: the wall clock may be set while it lasts.
            await trio.sleep(max(_SHORTEST_SLEEP_S, min(span - self._now() % span, _LOOK_AT_CLOCK_S)))
            if self._log.overdue():
                async with self._turn:
                    try:
                        await trio.to_thread.run_sync(self._log.rotate_overdue, limiter=self._limiter)
                    finally:
                        self._note_rotation()

    def _note_rotation(self) -> None:
        if self._log.rotated:
            self._log.rotated = False
            self._untended.set()
