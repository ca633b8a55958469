# SPDX-License-Identifier: GPL-2.0-or-later
"""The stage itself: all enrichments over each list of events, in order."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, cast

import trio

from pipeline.enrich.hashes import Hashes
from pipeline.latency import Latency
from pipeline.passing import Take
from probes.event import HostEvent, ProcessEvent


class Enrichment(Protocol):
    """Sets fields of events in place. What it cannot know it leaves at its default."""

    async def enrich(self, events: list[ProcessEvent]) -> None: ...

    def statistics(self) -> Mapping[str, int]: ...


@asynccontextmanager
async def enriching(
    pass_on: Take, enrichments: Iterable[Enrichment], latency: Latency, hashes: Hashes | None = None
) -> AsyncIterator[Take]:
    """What takes in lists and passes them on enriched.

    `hashes`, where it is among the enrichments, passes on late what it holds back; the context is not left before.
    """
    ordered = tuple(enrichments)
    ended = trio.Event()

    async def take(events: list[HostEvent]) -> None:
        began = time.perf_counter()
        processes = _with_process(events)
        for enrichment in ordered:
            await enrichment.enrich(processes)
        if hashes is not None:
            events = hashes.without_late(events)
        latency.took(time.perf_counter() - began, len(events))
        if events:
            await pass_on(events)

    async with trio.open_nursery() as nursery:
        if hashes is not None:
            await nursery.start(hashes.run, pass_on, ended)
        yield take
        ended.set()


def _with_process(events: list[HostEvent]) -> list[ProcessEvent]:
    if all(issubclass(kind, ProcessEvent) for kind in set(map(type, events))):
        return cast("list[ProcessEvent]", events)
    return [event for event in events if isinstance(event, ProcessEvent)]
