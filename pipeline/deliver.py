# SPDX-License-Identifier: GPL-2.0-or-later
"""The deliver stage: every batch to every sink, each at its own pace.

A sink has a queue and a task of its own (`pipeline.outlet`). A batch that it
does not take is offered again; what a full queue does with new batches is the
sink's configuration: drop and count them, spool them, or let the pipeline wait.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial, reduce

import structlog
import trio

from pipeline.backlog import Backlog, SpoolThread
from pipeline.batch import Batch, Needs
from pipeline.latency import Latency
from pipeline.ledger import Ledger
from pipeline.outlet import Open, Outlet, needs_of
from pipeline.passing import take_turn
from sinks.protocol import SinkConfig, SinkError
from sinks.spool import SpoolConfig, open_spool

_LAST_OLD_BATCH_S = 1.0
"""Above the age at which batches leave (`pipeline.batch_age_ms`), as a rule."""

log = structlog.get_logger()


class Delivery:
    """The open sinks. `run` owns their tasks; the other methods may be called beside it."""

    def __init__(self, open_sink: Open, ledger: Ledger, spool: SpoolConfig | None = None) -> None:
        self._open_sink = open_sink
        self._ledger = ledger
        self._spool_config = spool or SpoolConfig()
        self._spool: SpoolThread | None = None
        self._outlets: dict[str, Outlet] = {}
        self._nursery: trio.Nursery | None = None
        self._changing = trio.Lock()
        """Held while a batch is offered and while outlets change."""
        self._reloading = trio.Lock()
        self._started = trio.Event()
        self._no_more_batches = False
        self._deadline = math.inf
        self._needs = _needs_of({})
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
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._needs = _needs_of(sinks)
                for name, config in sinks.items():
                    await self._start(name, config)
                self._started.set()
                task_status.started()
                async with receive:
                    async for batch in receive:
                        if batch.needs.cover(self._needs):
                            self._newer_batch.set()
                        await take_turn(self._changing)
                        try:
                            for outlet in self._outlets.values():
                                await outlet.offer(batch)
                        finally:
                            self._changing.release()
                async with self._changing:
                    self._no_more_batches = True
                    for outlet in self._outlets.values():
                        outlet.close()
        finally:
            if self._spool is not None:
                self._spool.spool.close()

    async def _start(self, name: str, config: SinkConfig, *, patient: bool = False) -> None:
        assert self._nursery is not None
        outlet = Outlet(name, config, self._ledger, await self._backlog(name, config), patient=patient)
        await self._nursery.start(self._serve, outlet)
        outlet.scope.deadline = self._deadline
        self._outlets[name] = outlet

    async def _serve(self, outlet: Outlet, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await outlet.run(self._open_sink, task_status=task_status)
        if self._outlets and all(each.unread for each in self._outlets.values()):
            self.readers_gone.set()

    async def _backlog(self, name: str, config: SinkConfig) -> Backlog | None:
        if not config.spools:
            return None
        if self._spool is None:
            self._spool = await self._open_spool()
        return Backlog(
            self._spool,
            name,
            config,
            dropped=self._ledger.dropped_spool,
            block=self._spool_config.when_full == "block",
        )

    async def _open_spool(self) -> SpoolThread:
        spool = await trio.to_thread.run_sync(partial(open_spool, self._spool_config, lost=self._ledger.dropped_spool))
        if spool.set_aside is not None:
            log.error("the spool was damaged; it was set aside and a new one begun", file=str(spool.set_aside))
        for sink, batches in spool.sinks().items():
            log.info("the spool has batches of an earlier run", sink=sink, batches=batches)
        return SpoolThread(spool)

    async def reload(self, sinks: Mapping[str, SinkConfig], *, patience_s: float) -> None:
        """Reopen what stays, close what goes once its queue is empty, open what is new.

        A sink whose configuration changed is closed first, for two may not share one file; batches wait
        meanwhile, `patience_s` at most for each. If the new one cannot be opened the old one comes back, as soon
        as it can be opened itself. Called while the first sinks are being opened, it waits for them.

        Raises:
            SinkError: a sink cannot be opened; those named before it have changed.
        """
        await self._started.wait()
        async with self._reloading:
            needs = _needs_of(sinks)
            if not self._needs.cover(needs):
                self._needs |= needs
                await self._batches_for_new_needs()
            # Before the lock, which a batch may hold that a blocked sink does not take.
            for name, outlet in self._outlets.items():
                if sinks.get(name) != outlet.config:
                    outlet.scope.deadline = min(self._deadline, trio.current_time() + patience_s)
                else:
                    outlet.reopen()
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
            elif present.config != config:
                await self._stop(name)
                try:
                    await self._start(name, config)
                except SinkError:
                    await self._start(name, present.config, patient=True)
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
        outlet.close()
        await outlet.ended.wait()

    def needs(self) -> Needs:
        """What batches must hold from now on."""
        return self._needs

    def end_by(self, deadline: float) -> None:
        """Give up at `deadline` (trio's clock) what is not delivered, and count it as spooled or dropped."""
        self._deadline = deadline
        for outlet in self._outlets.values():
            outlet.scope.deadline = min(outlet.scope.deadline, deadline)

    def statistics(self) -> dict[str, Mapping[str, int]]:
        """By sink: its own figures, and the batches that wait for it; the spool's."""
        figures = {
            f"sink_{name}": outlet.statistics()
            for name, outlet in tuple(self._outlets.items())  # the metrics ask from a thread
        }
        return {**figures, **({"spool": self._spool.spool.statistics()} if self._spool is not None else {})}

    def latencies(self) -> dict[str, Latency]:
        """By sink: from the kernel to its acknowledgement."""
        return {name: outlet.latency for name, outlet in tuple(self._outlets.items())}


def _needs_of(sinks: Mapping[str, SinkConfig]) -> Needs:
    return reduce(Needs.__or__, map(needs_of, sinks.values()), Needs(frozenset(), events=False))
