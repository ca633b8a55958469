# SPDX-License-Identifier: GPL-2.0-or-later
"""The enrich stage: every enrichment in its turn, every event onwards."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from pipeline.enrich.stage import enrich
from pipeline.gap import Gap
from pipeline.latency import Latency
from probes.event import HostEvent, ProcessEvent
from probes.process.exit import Exit
from tests.unit.pipeline.samples import made


class Appends:
    """An enrichment that appends its mark to the user's name."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.seen = 0

    async def enrich(self, events: list[ProcessEvent]) -> None:
        await trio.lowlevel.checkpoint()
        for event in events:
            event.user += self.mark
            self.seen += 1

    def statistics(self) -> Mapping[str, int]:
        return {"seen": self.seen}


def gap() -> Gap:
    return Gap(flags=0, cpu=0, sequence=1, time_ns=0, lost_kind=60, lost_cpu=0, first=1, last=1, cause="kernel_ring")


async def test_enrichments_in_order_and_events_in_order() -> None:
    """Each event of a process passes every enrichment in its order; gaps pass untouched, in their place."""
    events_in, events_out = trio.open_memory_channel[list[HostEvent]](9)
    done_in, done_out = trio.open_memory_channel[list[HostEvent]](9)
    batches: list[list[HostEvent]] = [[made(Exit), gap(), made(Exit)], [gap()], [made(Exit), made(Exit)]]
    async with events_in:
        for batch in batches:
            await events_in.send(batch)
    first, second = Appends("a"), Appends("b")
    await enrich(events_out, done_in, [first, second], Latency())
    done = [batch async for batch in done_out]
    assert [list(map(id, batch)) for batch in done] == [list(map(id, batch)) for batch in batches]
    users = [event.user for batch in done for event in batch if isinstance(event, Exit)]
    assert users == ["-1ab"] * 4
    assert (first.seen, second.seen) == (4, 4)
