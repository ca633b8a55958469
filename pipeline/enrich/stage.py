# SPDX-License-Identifier: GPL-2.0-or-later
"""The stage itself: all enrichments over each list of events, in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, cast

import trio

from probes.event import HostEvent, ProcessEvent


class Enrichment(Protocol):
    """Sets fields of events in place. What it cannot know it leaves at its default."""

    async def enrich(self, events: list[ProcessEvent]) -> None: ...

    def statistics(self) -> Mapping[str, int]: ...


async def enrich(
    receive: trio.MemoryReceiveChannel[list[HostEvent]],
    send: trio.MemorySendChannel[list[HostEvent]],
    enrichments: Iterable[Enrichment],
) -> None:
    """Run until the source ends."""
    ordered = tuple(enrichments)
    async with receive, send:
        async for events in receive:
            processes = _with_process(events)
            for enrichment in ordered:
                await enrichment.enrich(processes)
            await send.send(events)


def _with_process(events: list[HostEvent]) -> list[ProcessEvent]:
    if all(issubclass(kind, ProcessEvent) for kind in set(map(type, events))):
        return cast("list[ProcessEvent]", events)
    return [event for event in events if isinstance(event, ProcessEvent)]
