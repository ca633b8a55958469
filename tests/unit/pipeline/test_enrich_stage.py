# SPDX-License-Identifier: GPL-2.0-or-later
"""The enrich stage: every enrichment in its turn, every event onwards."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from pipeline.enrich.stage import enriching
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
    done: list[list[HostEvent]] = []

    async def pass_on(events: list[HostEvent]) -> None:
        await trio.lowlevel.checkpoint()
        done.append(events)

    batches: list[list[HostEvent]] = [[made(Exit), gap(), made(Exit)], [gap()], [made(Exit), made(Exit)]]
    first, second = Appends("a"), Appends("b")
    async with enriching(pass_on, [first, second], Latency()) as enrich:
        for batch in batches:
            await enrich(batch)
    assert [list(map(id, batch)) for batch in done] == [list(map(id, batch)) for batch in batches]
    users = [event.user for batch in done for event in batch if isinstance(event, Exit)]
    assert users == ["-1ab"] * 4
    assert (first.seen, second.seen) == (4, 4)
