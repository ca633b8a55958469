# SPDX-License-Identifier: GPL-2.0-or-later
"""The batch stage: events in order, gathered by number and age for the sinks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import trio

from probes.event import HostEvent
from sinks.protocol import Schema

Encode = Callable[[Sequence[HostEvent], Schema], bytes]


def count(events: Iterable[HostEvent]) -> dict[int, int]:
    """Events by kind."""
    kinds: Counter[type[HostEvent]] = Counter(map(type, events))
    return {kind.data_type: number for kind, number in kinds.items()}


class Batch:
    """Events and, once a sink has asked, their encodings (`sinks.protocol.Batch`)."""

    __slots__ = ("_encode", "_encoded", "counts", "events")

    def __init__(self, events: Sequence[HostEvent], encode: Encode) -> None:
        self.events = events
        self.counts = count(events)
        """Events by kind."""
        self._encode = encode
        self._encoded: dict[Schema, bytes] = {}

    def __len__(self) -> int:
        return len(self.events)

    def encoded(self, schema: Schema) -> bytes:
        """The events as NDJSON; made once a schema."""
        made = self._encoded.get(schema)
        if made is None:
            made = self._encoded[schema] = self._encode(self.events, schema)
        return made


async def gather(
    receive: trio.MemoryReceiveChannel[list[HostEvent]],
    send: trio.MemorySendChannel[Batch],
    *,
    encode: Encode,
    events: int,
    age_s: float,
) -> None:
    """Pass on at `events` or more, or when the oldest has waited `age_s`; and what is left at the end."""
    waiting: list[HostEvent] = []
    deadline = math.inf
    async with receive, send:
        ended = False
        while not ended:
            with trio.move_on_at(deadline) as aged:
                try:
                    some = await receive.receive()
                except trio.EndOfChannel:
                    ended = True
                else:
                    if not waiting:
                        deadline = trio.current_time() + age_s
                    waiting += some
            if waiting and (ended or aged.cancelled_caught or len(waiting) >= events):
                batch, waiting, deadline = Batch(waiting, encode), [], math.inf
                await send.send(batch)
