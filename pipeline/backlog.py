# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches on their way to one sink: in memory while it keeps up, in the spool while it does not.

They leave in the order in which they came. Each has a number from the spool
the moment it comes, so that one that waited in memory and is stored only at
the end still stands before those that were stored earlier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog
import trio

from pipeline.joined import MOST, Countable
from pipeline.spooled import Spooled, spooled
from sinks.protocol import SinkConfig
from sinks.spool import SpoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipeline.batch import Batch
    from pipeline.ledger import Counts
    from sinks.spool.store import Spool

_STORE_AT_END_S = 5.0
"""No further batch is stored after this: a slow disk must not hold up the end for long. One that hangs does."""

_BLOCKED_RETRY_S = 0.5

_Given = TypeVar("_Given")

log = structlog.get_logger()


@dataclass(slots=True)
class Parcel:
    """A batch under its number; `stored`: the spool has it too."""

    number: int
    batch: Countable
    stored: bool


class SpoolThread:
    """A `Spool` for tasks: one call at a time, in a worker thread."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._limiter = trio.CapacityLimiter(1)

    async def __call__(self, function: Callable[..., _Given], *arguments: object, **named: object) -> _Given:
        return await trio.to_thread.run_sync(partial(function, *arguments, **named), limiter=self._limiter)


class Backlog:
    """What one sink has not acknowledged."""

    def __init__(
        self,
        thread: SpoolThread,
        name: str,
        config: SinkConfig,
        *,
        dropped: Callable[[str, Counts], None],
        block: bool,
    ) -> None:
        """`dropped` is told of batches that the spool had no room for; with `block` they wait instead."""
        self._thread = thread
        self._spool = thread.spool
        self._name = name
        self._config = config
        self._dropped = dropped
        self._block = block
        self._memory: deque[Parcel] = deque()
        self._most = min(config.queue_batches, MOST)
        self._under_way: list[Parcel] = []
        self._incoming: Parcel | None = None
        self._spilling = False
        """Whether the spool has batches that are not in memory: until it has none, new ones go there as well."""
        self._turn = trio.Lock()
        self._change = trio.Event()
        self._refused = False
        self._unfit = False
        self._ended = False

    async def resume(self) -> Counts:
        """Take over what an earlier run left; gives its events by kind."""
        waiting = await self._thread(self._spool.waiting, self._name)
        self._spilling = bool(waiting)
        return waiting

    async def fill(self, receive: trio.MemoryReceiveChannel[Batch]) -> None:
        """Take in batches until they end."""
        async for batch in receive:
            await self._put(batch)
        self._ended = True
        self._wake()

    async def _put(self, batch: Batch) -> None:
        parcel = self._incoming = Parcel(self._spool.number(), batch, stored=False)
        while True:
            change = self._change
            async with self._turn:
                keep = not self._spilling and len(self._memory) < self._config.queue_batches
                if self._config.durability == "disk" or not keep:
                    await self._store(parcel, held=keep)
                if keep:
                    self._memory.append(parcel)
                elif parcel.stored:
                    self._spilling = True
                elif not self._block:
                    self._dropped(self._name, batch.counts)
                if keep or parcel.stored or not self._block:
                    self._incoming = None
                    break
            with trio.move_on_after(_BLOCKED_RETRY_S):
                await change.wait()
        self._wake()

    async def _store(self, parcel: Parcel, *, held: bool) -> None:
        """Sets `parcel.stored` unless the spool has no room."""
        lines = parcel.batch.encoded(self._config.schema)
        durable = self._config.durability == "disk"
        counts = parcel.batch.counts
        try:
            await self._thread(self._spool.put, self._name, parcel.number, counts, lines, held=held, durable=durable)
        except SpoolFull as error:
            if not self._refused:  # once: a full spool refuses every batch
                log.warning("the spool takes nothing more", sink=self._name, reason=str(error))
            self._refused = True
        else:
            if self._refused:
                log.info("the spool takes batches again", sink=self._name)
            self._refused = False
            parcel.stored = True

    def _wake(self) -> None:
        self._change.set()
        self._change = trio.Event()

    async def next(self) -> list[Parcel] | None:
        """The batches to deliver now; they are this backlog's until `acknowledged`. None: there will be no more."""
        while True:
            change = self._change
            if self._memory:
                self._under_way = [self._memory.popleft() for _ in range(min(len(self._memory), self._most))]
            elif self._spilling:
                await self._take()
            elif self._ended:
                return None
            else:
                await change.wait()
            if self._under_way:
                self._wake()
                return self._under_way

    async def _take(self) -> None:
        async with self._turn:
            found = await self._thread(self._spool.take, self._name, self._most)
            self._spilling = bool(found)
            schemas = self._config.accepts
            batches = [spooled(each.lines, each.counts, each.stored, schemas) for each in found]
            self._under_way = [
                Parcel(each.number, batch, stored=True) for each, batch in zip(found, batches, strict=True)
            ]
            if not any(batches):
                await self.acknowledged()

    async def acknowledged(self) -> None:
        """The sink has what `next` gave; what it could not have of that counts as dropped."""
        stored = [parcel.number for parcel in self._under_way if parcel.stored]
        for parcel in self._under_way:
            if isinstance(parcel.batch, Spooled) and parcel.batch.lost:
                self._dropped(self._name, parcel.batch.lost)
                self._tell_unfit(sum(parcel.batch.lost.values()))
        self._under_way = []
        if stored:
            with trio.CancelScope(shield=True):  # they are counted as delivered already
                await self._thread(self._spool.done, self._name, *stored)

    def _tell_unfit(self, events: int) -> None:
        """Once: all that an earlier configuration left may be so."""
        if not self._unfit:
            log.warning(
                "the spool has events that this sink cannot take; they are dropped and counted",
                sink=self._name,
                events=events,
                schemas=sorted(self._config.accepts),
            )
        self._unfit = True

    async def end(self, rest: list[Batch]) -> Counts:
        """Store what is in memory alone, `rest` behind it; gives what the spool then holds by kind.

        To be called once nothing else is. What finds no room, or no time, is told as dropped.
        """
        behind = (Parcel(self._spool.number(), batch, stored=False) for batch in rest)
        incoming = [self._incoming] if self._incoming is not None else []
        parcels = [*self._under_way, *self._memory, *incoming, *behind]
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _STORE_AT_END_S):
            for parcel in parcels:
                if not parcel.stored:
                    await self._store(parcel, held=False)
        for parcel in parcels:
            if not parcel.stored:
                self._dropped(self._name, parcel.batch.counts)
        waiting: Counts = {}
        with trio.CancelScope(shield=True):
            waiting = await self._thread(self._spool.release, self._name)
        return waiting  # noqa: RET504 - to mypy a cancel scope may swallow the return

    def statistics(self) -> Mapping[str, int]:
        """Gauges: batches in memory, and in the spool."""
        return {"memory_batches": len(self._memory), "spool_batches": self._spool.sinks().get(self._name, 0)}
