# SPDX-License-Identifier: GPL-2.0-or-later
"""Sinks that do what a test says: whole implementations of the protocol, without files."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import trio

from pipeline.batch import Batch
from pipeline.deliver import Delivery
from pipeline.ledger import Ledger
from pipeline.stages import new_ledger
from sinks.protocol import Batch as AnyBatch
from sinks.protocol import SinkConfig, SinkError
from sinks.spool import SpoolConfig
from tests.unit.pipeline.samples import batch_of, numbered, pids


class Config(SinkConfig, frozen=True, kw_only=True, tag="double"):
    """The configuration of a sink that a `Shop` opens."""

    name: str = "a"
    option: int = 0
    """Anything that can change."""


@dataclass
class Double:
    """A sink. It takes a batch when `gate` is open, raises what `troubles` holds first, and remembers."""

    config: Config
    troubles: list[Exception] = field(default_factory=list)
    gate: trio.Event = field(default_factory=trio.Event)
    taken: list[int] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)
    reopened: int = 0
    is_open: bool = True

    async def deliver(self, batch: AnyBatch) -> None:
        self.tries.append(trio.current_time())
        if self.troubles:
            raise self.troubles.pop(0)
        await self.gate.wait()
        self.taken += pids(batch)

    async def reopen(self) -> None:
        self.reopened += 1

    def statistics(self) -> Mapping[str, int]:
        return {"taken": len(self.taken)}


@dataclass
class Shop:
    """Opens sinks, and keeps every one that it opened by its name, the latest last."""

    opened: dict[str, list[Double]] = field(default_factory=dict)
    prepare: Callable[[Double], None] = lambda sink: sink.gate.set()
    refused: set[int] = field(default_factory=set)
    """Options with which no sink can be opened."""

    @asynccontextmanager
    async def open_sink(self, config: SinkConfig) -> AsyncIterator[Double]:
        assert isinstance(config, Config)
        if config.option in self.refused:
            raise SinkError(f"{config.name} cannot be opened")
        sink = Double(config)
        self.prepare(sink)
        await trio.lowlevel.checkpoint()
        self.opened.setdefault(config.name, []).append(sink)
        assert sum(each.is_open for each in self.opened[config.name]) == 1, "two sinks share one file"
        try:
            yield sink
        finally:
            sink.is_open = False

    def sink(self, name: str = "a", at: int = -1) -> Double:
        return self.opened[name][at]

    def taken(self, name: str = "a") -> list[int]:
        """What all sinks of that name took."""
        return [number for sink in self.opened[name] for number in sink.taken]


@dataclass
class Running:
    """A delivery at work."""

    delivery: Delivery
    ledger: Ledger
    send: trio.MemorySendChannel[Batch]
    sent: int = 0

    async def offer(self, *sizes: int) -> None:
        """Send batches of these sizes, whose events count up."""
        for size in sizes:
            events = numbered(size, start=self.sent)
            self.sent += size
            await self.send.send(batch_of(*events))

    def settle_source(self) -> None:
        """Make the ledger know where the events came from, so that it can close."""
        self.ledger.source(59, emitted=self.sent, dropped=0, filtered=0)
        self.ledger.decoded({59: self.sent - self.ledger.kinds[59].decoded})

    def account(self, name: str = "a") -> dict[str, int]:
        """What became of the events at one sink, without what is 0."""
        account = self.ledger.kinds[59].sink(name)
        return {figure: number for figure, number in asdict(account).items() if number}


def configs(*names: str, **settings: Any) -> dict[str, SinkConfig]:
    """The same configuration for each name."""
    return {name: Config(name=name, **settings) for name in names}


@asynccontextmanager
async def delivering(
    shop: Shop, sinks: Mapping[str, SinkConfig], *, capacity: float = math.inf, spool: SpoolConfig | None = None
) -> AsyncIterator[Running]:
    """A delivery; leaving the block ends the batches and waits for the sinks; then the ledger must close."""
    ledger = new_ledger()
    delivery = Delivery(shop.open_sink, ledger, spool)
    send, receive = trio.open_memory_channel[Batch](capacity)
    running = Running(delivery, ledger, send)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(delivery.run, receive, sinks))
        async with send:
            yield running
    running.settle_source()
    assert ledger.is_closed(), list(ledger.lines())


def numbers(count: int) -> list[int]:
    """What a sink has that took everything."""
    return list(range(count))


def closed(sinks: Iterable[Double]) -> bool:
    return not any(sink.is_open for sink in sinks)
