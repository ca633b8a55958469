# SPDX-License-Identifier: GPL-2.0-or-later
"""The deliver stage: every batch to every sink, each at its own pace.

A sink has a queue and a task of its own. A batch that it does not take is
offered again; a queue that is full drops new batches and counts them, or lets
the pipeline wait, as the configuration says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import structlog
import trio

from pipeline.batch import Batch, Needs
from pipeline.ledger import Ledger
from sinks.protocol import Sink, SinkClosed, SinkConfig, SinkError, SinkUnavailable

Open = Callable[[SinkConfig], AbstractAsyncContextManager[Sink]]

_BACKOFF_FIRST_S = 0.1
_BACKOFF_LAST_S = 5.0
_LAST_OLD_BATCH_S = 1.0
"""Above the age at which batches leave (`pipeline.batch_age_ms`), as a rule."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Outlet:
    """One open sink: its queue and what its task is told."""

    name: str
    config: SinkConfig
    send: trio.MemorySendChannel[Batch]
    receive: trio.MemoryReceiveChannel[Batch]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    sink: Sink | None = None
    reopen: bool = False
    unread: bool = False
    """Its reader went away."""

    ended: trio.Event = field(default_factory=trio.Event)


class Delivery:
    """The open sinks. `run` owns their tasks; the other methods may be called beside it."""

    def __init__(self, open_sink: Open, ledger: Ledger) -> None:
        self._open_sink = open_sink
        self._ledger = ledger
        self._outlets: dict[str, _Outlet] = {}
        self._nursery: trio.Nursery | None = None
        self._changing = trio.Lock()
        """Held while a batch is offered and while outlets change."""
        self._reloading = trio.Lock()
        self._no_more_batches = False
        self._deadline = math.inf
        self._needs = Needs(frozenset(), events=False)
        self._newer_batch = trio.Event()
        self.readers_gone = trio.Event()
        """Set when no sink will ever take anything more."""

    async def run(
        self,
        receive: trio.MemoryReceiveChannel[Batch],
        sinks: Mapping[str, SinkConfig],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Open `sinks` and deliver until the batches end and every queue is empty.

        Raises:
            SinkError: a sink cannot be opened; before `task_status.started()`.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._needs = _needs_of(sinks)
            for name, config in sinks.items():
                await self._start(name, config)
            task_status.started()
            async with receive:
                async for batch in receive:
                    if batch.needs.cover(self._needs):
                        self._newer_batch.set()
                    async with self._changing:
                        for outlet in self._outlets.values():
                            await self._offer(outlet, batch)
            async with self._changing:
                self._no_more_batches = True
                for outlet in self._outlets.values():
                    outlet.send.close()

    async def _offer(self, outlet: _Outlet, batch: Batch) -> None:
        self._ledger.offered(outlet.name, batch.counts)
        try:
            if not batch.needs.cover(_needs_of({outlet.name: outlet.config})):
                raise trio.WouldBlock
            if outlet.config.when_full == "block":
                await outlet.send.send(batch)
            else:
                outlet.send.send_nowait(batch)
        except trio.WouldBlock:
            self._ledger.dropped_queue(outlet.name, batch.counts)
        except trio.BrokenResourceError:
            self._ledger.dropped_shutdown(outlet.name, batch.counts)

    async def _start(self, name: str, config: SinkConfig) -> None:
        assert self._nursery is not None
        send, receive = trio.open_memory_channel[Batch](config.queue_batches)
        outlet = _Outlet(name, config, send, receive)
        await self._nursery.start(self._serve, outlet)
        outlet.scope.deadline = self._deadline
        self._outlets[name] = outlet

    async def _serve(self, outlet: _Outlet, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            with outlet.scope:
                async with self._open_sink(outlet.config) as sink:
                    outlet.sink = sink
                    task_status.started()
                    async for batch in outlet.receive:
                        await self._deliver(outlet, sink, batch)
        except* SinkClosed:
            log.info("the reader of a sink went away", sink=outlet.name)
            outlet.unread = True
            if all(each.unread for each in self._outlets.values()):
                self.readers_gone.set()
        finally:
            outlet.sink = None
            self._give_up(outlet)
            outlet.ended.set()

    def _give_up(self, outlet: _Outlet) -> None:
        """Count what still waits as dropped, and take nothing more."""
        while True:
            try:
                batch = outlet.receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            self._ledger.dropped_shutdown(outlet.name, batch.counts)
        outlet.receive.close()

    async def _deliver(self, outlet: _Outlet, sink: Sink, batch: Batch) -> None:
        settle = self._ledger.dropped_shutdown
        pause = _BACKOFF_FIRST_S
        try:
            while True:
                if outlet.reopen:
                    outlet.reopen = False
                    await self._reopen(outlet, sink)
                try:
                    await sink.deliver(batch)
                except SinkUnavailable as error:
                    log.warning("a sink takes nothing, trying again", sink=outlet.name, reason=str(error))
                    await trio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, _BACKOFF_LAST_S)
                else:
                    settle = self._ledger.delivered
                    return
        finally:
            settle(outlet.name, batch.counts)

    async def _reopen(self, outlet: _Outlet, sink: Sink) -> None:
        try:
            await sink.reopen()
        except SinkError as error:
            log.error("a sink was not reopened, the old one stays", sink=outlet.name, reason=str(error))

    async def reload(self, sinks: Mapping[str, SinkConfig], *, patience_s: float) -> None:
        """Reopen what stays, close what goes once its queue is empty, open what is new.

        A sink whose configuration changed is closed first, for two may not share one file; batches wait
        meanwhile, `patience_s` at most for each. If the new one cannot be opened the old one comes back.

        Raises:
            SinkError: a sink cannot be opened; those named before it have changed.
        """
        async with self._reloading:
            needs = _needs_of(sinks)
            if not self._needs.cover(needs):
                self._needs |= needs
                await self._batches_for_new_needs()
            # Before the lock, which a batch may hold that a blocked sink does not take.
            for name, outlet in self._outlets.items():
                if sinks.get(name) != outlet.config:
                    outlet.scope.deadline = min(self._deadline, trio.current_time() + patience_s)
            async with self._changing:
                if not self._no_more_batches:
                    await self._change(sinks)
                    self._needs = needs

    async def _change(self, sinks: Mapping[str, SinkConfig]) -> None:
        for name in [name for name in self._outlets if name not in sinks]:
            await self._stop(name)
        for name, config in sinks.items():
            present = self._outlets.get(name)
            if present is None:
                await self._start(name, config)
            elif present.config == config:
                present.reopen = True
            else:
                await self._stop(name)
                try:
                    await self._start(name, config)
                except SinkError:
                    await self._start(name, present.config)
                    raise

    async def _batches_for_new_needs(self) -> None:
        """Let those pass first that were made for the sinks as they are.

        On a quiet host none comes, and none is under way; behind a sink that blocks some may still come,
        and count as dropped.
        """
        self._newer_batch = trio.Event()
        with trio.move_on_after(_LAST_OLD_BATCH_S):
            await self._newer_batch.wait()

    async def _stop(self, name: str) -> None:
        outlet = self._outlets.pop(name)
        outlet.send.close()
        await outlet.ended.wait()

    def needs(self) -> Needs:
        """What batches must hold from now on."""
        return self._needs

    def end_by(self, deadline: float) -> None:
        """Give up what is not delivered at `deadline` (trio's clock) and count it as dropped."""
        self._deadline = deadline
        for outlet in self._outlets.values():
            outlet.scope.deadline = min(outlet.scope.deadline, deadline)

    def statistics(self) -> dict[str, Mapping[str, int]]:
        """By sink: its own figures, and the batches that wait for it."""
        return {
            name: {
                **(outlet.sink.statistics() if outlet.sink is not None else {}),
                "queue_batches": outlet.send.statistics().current_buffer_used,
            }
            for name, outlet in tuple(self._outlets.items())  # the metrics ask from a thread
        }


def _needs_of(sinks: Mapping[str, SinkConfig]) -> Needs:
    return Needs(
        frozenset(config.schema for config in sinks.values()),
        any(config.reads_events for config in sinks.values()),
    )
