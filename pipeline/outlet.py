# SPDX-License-Identifier: GPL-2.0-or-later
"""One sink at work: its queue, its retries, and what becomes of batches that it does not take."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import structlog
import trio

from pipeline.backlog import Backlog
from pipeline.batch import Batch, Needs
from pipeline.joined import MOST, Countable, joined
from pipeline.latency import Latency
from pipeline.ledger import Counts, Ledger
from pipeline.passing import pass_on
from sinks.protocol import Sink, SinkClosed, SinkConfig, SinkError, SinkUnavailable

Open = Callable[[SinkConfig], AbstractAsyncContextManager[Sink]]

_BACKOFF_FIRST_S = 0.1
_BACKOFF_LAST_S = 5.0

log = structlog.get_logger()


def needs_of(config: SinkConfig) -> Needs:
    """What a batch must hold for this sink."""
    return Needs(frozenset([config.schema]), config.reads_events)


class Outlet:
    """One open sink. Its task is `run`; the other methods are called beside it."""

    def __init__(
        self, name: str, config: SinkConfig, ledger: Ledger, backlog: Backlog | None, *, patient: bool = False
    ) -> None:
        """`backlog`: where batches wait that the sink does not take; None: they wait in the queue alone.

        `patient`: a sink that cannot be opened is tried again, and batches wait, rather than that `run` fails.
        """
        self.name = name
        self.config = config
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.unread = False
        """Its reader went away."""

        self.latency = Latency()
        """From the kernel to the sink's acknowledgement, of this sink as it is configured now."""

        self._ledger = ledger
        self._backlog = backlog
        self._patient = patient
        self._send, self._receive = trio.open_memory_channel[Batch](config.queue_batches)
        self._sink: Sink | None = None
        self._reopen = False
        self._trouble = ""
        """Why the sink takes nothing at present."""

    async def offer(self, batch: Batch) -> None:
        """Put a batch into the queue; one that cannot be is counted."""
        self._ledger.offered(self.name, batch.counts)
        try:
            if not batch.needs.cover(needs_of(self.config)):
                raise trio.WouldBlock
            if self.config.when_full == "drop":
                self._send.send_nowait(batch)
            else:
                await pass_on(self._send, batch)
        except trio.WouldBlock:
            self._ledger.dropped_queue(self.name, batch.counts)
        except trio.BrokenResourceError:
            self._ledger.dropped_shutdown(self.name, batch.counts)

    def close(self) -> None:
        """No more batches; `ended` is set when those in the queue are settled."""
        self._send.close()

    def reopen(self) -> None:
        """Let the sink take its files and connections anew before its next batch."""
        self._reopen = True

    async def run(self, open_sink: Open, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the sink, and deliver until there is nothing more or `scope` is cancelled.

        Raises:
            SinkError: the sink cannot be opened, and is not `patient`; before `task_status.started()`.
        """
        if self._backlog is not None:
            self._ledger.resumed(self.name, await self._backlog.resume())
        try:
            with self.scope:
                async with AsyncExitStack() as stack:
                    if not self._patient:
                        self._sink = await stack.enter_async_context(open_sink(self.config))
                    task_status.started()
                    if self._backlog is not None:
                        nursery = await stack.enter_async_context(trio.open_nursery())
                        nursery.start_soon(self._backlog.fill, self._receive)
                    if self._sink is None:
                        self._sink = await self._open(open_sink, stack)
                    await self._serve(self._sink)
        except* SinkClosed:
            log.info("the reader of a sink went away", sink=self.name)
            self.unread = True
        finally:
            self._sink = None
            await self._settle()
            self.ended.set()

    async def _open(self, open_sink: Open, stack: AsyncExitStack) -> Sink:
        """Try until it can be opened."""
        pause = _BACKOFF_FIRST_S
        while True:
            try:
                sink = await stack.enter_async_context(open_sink(self.config))
            except SinkError as error:
                self._note_trouble(str(error))
                await trio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _BACKOFF_LAST_S)
            else:
                self._note_trouble("")
                return sink

    async def _serve(self, sink: Sink) -> None:
        if self._backlog is None:
            async for first in self._receive:
                batch = joined([first, *self._waiting()])
                try:
                    dead = await self._deliver(sink, batch)
                except BaseException:
                    self._ledger.dropped_shutdown(self.name, batch.counts)
                    raise
                self._acknowledged(batch, dead)
            return
        while (parcels := await self._backlog.next()) is not None:
            batch = joined([parcel.batch for parcel in parcels])
            dead = await self._deliver(sink, batch)
            self._acknowledged(batch, dead)
            await self._backlog.acknowledged()

    def _waiting(self) -> list[Batch]:
        """What goes with the first batch: others that wait already, where the sink takes lines alone."""
        most = 1 if self.config.reads_events else min(self.config.queue_batches, MOST)
        waiting: list[Batch] = []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while len(waiting) < most - 1:
                waiting.append(self._receive.receive_nowait())
        return waiting

    def _acknowledged(self, batch: Countable, dead: Counts | None) -> None:
        self._ledger.acknowledged(self.name, batch.counts, dead)
        self.latency.acknowledged(batch.ages())

    async def _deliver(self, sink: Sink, batch: Countable) -> Counts | None:
        """Until the sink has taken it; gives its dead letters."""
        pause = _BACKOFF_FIRST_S
        while True:
            if self._reopen:
                self._reopen = False
                await self._reopened(sink)
            try:
                dead = await sink.deliver(batch)
            except SinkUnavailable as error:
                self._note_trouble(str(error))
                await trio.sleep((error.pause_s or pause) * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _BACKOFF_LAST_S)
            else:
                self._note_trouble("")
                return dead

    def _note_trouble(self, reason: str) -> None:
        """Say it once for each change, not at each try."""
        if reason == self._trouble:
            return
        self._trouble = reason
        if reason:
            log.warning("a sink takes nothing, trying again", sink=self.name, reason=reason)
        else:
            log.info("a sink takes events again", sink=self.name)

    async def _reopened(self, sink: Sink) -> None:
        try:
            await sink.reopen()
        except SinkError as error:
            log.error("a sink was not reopened, the old one stays", sink=self.name, reason=str(error))

    async def _settle(self) -> None:
        """Count what still waits: as spooled where there is a spool for it, else as dropped."""
        rest: list[Batch] = []
        while True:
            try:
                rest.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
        self._receive.close()
        if self._backlog is not None:
            self._ledger.spooled(self.name, await self._backlog.end(rest))
        else:
            for batch in rest:
                self._ledger.dropped_shutdown(self.name, batch.counts)

    def statistics(self) -> Mapping[str, int]:
        """The sink's own figures, and the batches that wait for it."""
        return {
            **(self._sink.statistics() if self._sink is not None else {}),
            "queue_batches": self._send.statistics().current_buffer_used,
            **(self._backlog.statistics() if self._backlog is not None else {}),
        }
