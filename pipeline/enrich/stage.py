# SPDX-License-Identifier: GPL-2.0-or-later
"""The stage itself: all enrichments over each list of events, in order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import trio

from pipeline.enrich.hashes import Hashes
from pipeline.latency import Latency
from pipeline.passing import pass_on
from probes.event import HostEvent, ProcessEvent


class Enrichment(Protocol):
    """Sets fields of events in place. What it cannot know it leaves at its default."""

    async def enrich(self, events: list[ProcessEvent]) -> None: ...

    def statistics(self) -> Mapping[str, int]: ...


async def enrich(
    receive: trio.MemoryReceiveChannel[list[HostEvent]],
    send: trio.MemorySendChannel[list[HostEvent]],
    enrichments: Iterable[Enrichment],
    latency: Latency,
    hashes: Hashes | None = None,
) -> None:
    """Run until the source ends. `hashes`, where it is among the enrichments, sends late what it holds back."""
    ordered = tuple(enrichments)
    ended = trio.Event()
    async with receive, send, trio.open_nursery() as nursery:
        if hashes is not None:
            await nursery.start(hashes.run, send.clone(), ended)
        async for events in receive:
            began = time.perf_counter()
            processes = _with_process(events)
            for enrichment in ordered:
                await enrichment.enrich(processes)
            if hashes is not None:
                events = hashes.without_late(events)
            latency.took(time.perf_counter() - began, len(events))
            if events:
                await pass_on(send, events)
        ended.set()


def _with_process(events: list[HostEvent]) -> list[ProcessEvent]:
    if all(issubclass(kind, ProcessEvent) for kind in set(map(type, events))):
        return cast("list[ProcessEvent]", events)
    return [event for event in events if isinstance(event, ProcessEvent)]
