# SPDX-License-Identifier: GPL-2.0-or-later
"""The batch stage: events in order, gathered by number and age, in the forms that the sinks take."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import trio

from pipeline.latency import Latency, Times, boot_ns, times_of
from pipeline.passing import pass_on
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

    __slots__ = ("_lines", "_size", "_times", "boot_offset_ns", "counts", "events", "needs")

    def __init__(self, needs: Needs, boot_offset_ns: int) -> None:
        self.needs = needs
        self.boot_offset_ns = boot_offset_ns
        self.counts: dict[int, int] = {}
        """Events by kind."""
        self.events: list[HostEvent] = []
        """All of them if a sink looks at events, else none."""
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


async def gather(
    receive: trio.MemoryReceiveChannel[list[HostEvent]],
    send: trio.MemorySendChannel[Batch],
    *,
    encode: Encode,
    needs: Callable[[], Needs],
    boot_offset: Callable[[], int],
    events: int,
    age_s: float,
    latency: Latency,
) -> None:
    """Pass on at `events` or more, or when the oldest has waited `age_s`; and what is left at the end."""
    batch: Batch | None = None
    deadline = math.inf
    offset = boot_offset()
    async with receive, send:
        ended = False
        while not ended:
            some: list[HostEvent] = []
            try:
                some = receive.receive_nowait()
            except trio.EndOfChannel:
                ended = True
            except trio.WouldBlock:
                with trio.move_on_at(deadline):
                    try:
                        some = await receive.receive()
                    except trio.EndOfChannel:
                        ended = True
            if some:
                if batch is None:
                    now = boot_offset()
                    if abs(now - offset) >= _CLOCK_SET_NS:
                        offset = now
                    batch = Batch(needs(), offset)
                    deadline = trio.current_time() + age_s
                began = time.perf_counter()
                batch.add(some, encode)
                latency.took(time.perf_counter() - began, len(some))
                del some  # else they would stay until the next ones come
            if batch is not None and (ended or len(batch) >= events or trio.current_time() >= deadline):
                await pass_on(send, batch)
                batch, deadline = None, math.inf
