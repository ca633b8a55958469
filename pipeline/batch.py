# SPDX-License-Identifier: GPL-2.0-or-later
"""The batch stage: events in order, gathered by number and age, in the forms that the sinks take."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import trio

from pipeline.latency import Latency, Times, boot_ns, times_of
from pipeline.passing import Take, pass_on, take_turn
from probes.event import HostEvent
from sinks.protocol import Schema

_CLOCK_SET_NS = 1_000_000
"""Two looks at both clocks differ by less, unless the wall clock was set; then a process has one start time."""

_LARGE_PIECE = 32_768
"""Bytes that are copied in about the time of a system call."""

Encode = Callable[[list[HostEvent], Schema, int], bytes]
"""(events, schema, boot offset in ns) -> NDJSON"""


class Needs(NamedTuple):
    """What the open sinks take."""

    schemas: frozenset[Schema]
    events: bool
    """Whether one of them looks at the events themselves."""

    def cover(self, other: Needs) -> bool:
        """Whether a batch that was made for these needs has what `other` asks for."""
        return self.schemas >= other.schemas and self.events >= other.events

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.schemas | other.schemas, self.events or other.events)


def count(events: Sequence[HostEvent]) -> dict[int, int]:
    """Events by kind."""
    if len(set(map(type, events))) == 1:
        return {events[0].data_type: len(events)}
    kinds: Counter[type[HostEvent]] = Counter(map(type, events))
    return {kind.data_type: number for kind, number in kinds.items()}


class Batch:
    """Events as the sinks need them (`sinks.protocol.Batch`).

    They are encoded as they come, while the processor has them at hand, and let go unless a sink looks at
    them: a batch that waits for a slow sink holds its lines and little more.
    """

    __slots__ = ("_lines", "_size", "_times", "boot_offset_ns", "counts", "events", "needs", "size_bytes")

    def __init__(self, needs: Needs, boot_offset_ns: int) -> None:
        self.needs = needs
        self.boot_offset_ns = boot_offset_ns
        self.counts: dict[int, int] = {}
        """Events by kind."""
        self.events: list[HostEvent] = []
        """All of them if a sink looks at events, else none."""
        self.size_bytes = 0
        """Of the lines, in all schemas."""
        self._size = 0
        self._times: Times = []
        self._lines: dict[Schema, list[bytes]] = {schema: [] for schema in needs.schemas}

    def add(self, events: list[HostEvent], encode: Encode) -> None:
        """Take in further events."""
        self._size += len(events)
        self._times += times_of(events)
        for kind, number in count(events).items():
            self.counts[kind] = self.counts.get(kind, 0) + number
        for schema, lines in self._lines.items():
            lines.append(encode(events, schema, self.boot_offset_ns))
            self.size_bytes += len(lines[-1])
        if self.needs.events:
            self.events += events

    def __len__(self) -> int:
        return self._size

    def ages(self) -> Iterable[tuple[float, int]]:
        """Seconds since the kernel told of them, and the number of events."""
        now = boot_ns()
        return [((now - time) / 1e9, events) for time, events in self._times]

    def encoded(self, schema: Schema) -> bytes:
        """The events as NDJSON. Raises KeyError for a schema that is not among `needs`."""
        lines = self._lines[schema]
        if len(lines) != 1:
            lines[:] = [b"".join(lines)]
        return lines[0]

    def pieces(self, schema: Schema) -> Sequence[bytes]:
        """The same as they were encoded, if these pieces are large."""
        lines = self._lines[schema]
        if len(lines) > 1 and sum(map(len, lines)) < len(lines) * _LARGE_PIECE:
            return [self.encoded(schema)]
        return tuple(lines)


@dataclass(eq=False, kw_only=True)
class Gatherer:
    """Takes lists in, and passes on batches of `events` or `size_bytes`, or whose oldest event has waited `age_s`."""

    send: trio.MemorySendChannel[Batch]
    encode: Encode
    needs: Callable[[], Needs]
    boot_offset: Callable[[], int]
    events: int
    size_bytes: int
    age_s: float
    latency: Latency

    def __post_init__(self) -> None:
        self._offset = self.boot_offset()
        self._batch: Batch | None = None
        self._deadline = math.inf
        self._begun = trio.Event()
        self._turn = trio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Take]:
        """Gives what takes lists in; what is left goes on when the context is left, and `send` is closed."""
        async with self.send, trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_age_forever)
            yield self._take
            await self._pass_on()
            nursery.cancel_scope.cancel()

    async def _take(self, some: list[HostEvent]) -> None:
        if not some:
            return
        if self._batch is None:
            now = self.boot_offset()
            if abs(now - self._offset) >= _CLOCK_SET_NS:
                self._offset = now
            self._batch = Batch(self.needs(), self._offset)
            self._deadline = trio.current_time() + self.age_s
            self._begun.set()
        began = time.perf_counter()
        self._batch.add(some, self.encode)
        self.latency.took(time.perf_counter() - began, len(some))
        if len(self._batch) >= self.events or self._batch.size_bytes >= self.size_bytes:
            await self._pass_on()

    async def _pass_on(self) -> None:
        await take_turn(self._turn)
        try:
            batch, self._batch = self._batch, None
            if batch is not None:
                await pass_on(self.send, batch)
        finally:
            self._turn.release()

    async def _watch_age_forever(self) -> None:
        while True:
            if self._batch is None:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep_until(self._deadline)
            if self._batch is not None and trio.current_time() >= self._deadline:
                await self._pass_on()
