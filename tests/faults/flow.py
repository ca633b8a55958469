# SPDX-License-Identifier: GPL-2.0-or-later
"""Events through the deliver stage to a real sink, while something breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pipeline.batch import Batch
from pipeline.deliver import Delivery
from pipeline.ledger import Ledger, SinkAccount
from pipeline.outlets import open_sink
from pipeline.stages import new_ledger
from sinks.protocol import SinkConfig
from sinks.spool import SpoolConfig
from tests.unit.pipeline.samples import batch_of, numbered


@dataclass
class Flow:
    """A delivery at work. Events count up from 0."""

    delivery: Delivery
    ledger: Ledger
    send: trio.MemorySendChannel[Batch]
    ids: list[str] = field(default_factory=list)
    """Of every event so far, as a consumer reads them."""

    async def offer(self, batches: int, size: int = 100, *, pause_s: float = 0.0) -> None:
        for _ in range(batches):
            events = numbered(size, start=len(self.ids))
            for event in events:
                event.sequence = len(self.ids) + 1
                self.ids.append(f"0123456789abcdef-59-0-{event.sequence}")
            await self.send.send(batch_of(*events))
            await trio.sleep(pause_s)

    def account(self, sink: str) -> SinkAccount:
        return self.ledger.kinds[59].sink(sink)

    async def until_delivered(self, sink: str, number: int, limit_s: float = 60.0) -> None:
        with trio.fail_after(limit_s):
            while self.account(sink).delivered < number:  # noqa: ASYNC110 - a ledger tells nobody of its changes
                await trio.sleep(0.02)


@asynccontextmanager
async def flowing(sinks: Mapping[str, SinkConfig], folder: Path) -> AsyncIterator[Flow]:
    """Leaving the block ends the events, and waits until the sinks have them; then the ledger must close."""
    ledger = new_ledger()
    delivery = Delivery(open_sink, ledger, SpoolConfig(path=str(folder / "spool.db")))
    send, receive = trio.open_memory_channel[Batch](0)
    flow = Flow(delivery, ledger, send)
    async with trio.open_nursery() as nursery:
        await nursery.start(delivery.run, receive, sinks)
        async with send:
            yield flow
    ledger.source(59, emitted=len(flow.ids), dropped=0, filtered=0)
    ledger.decoded({59: len(flow.ids)})
    assert ledger.is_closed(), list(ledger.lines())
