# SPDX-License-Identifier: GPL-2.0-or-later
"""Sinks with a spool: what they do not take waits on the disk, and nothing is lost or told twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest
import trio
import trio.testing

from sinks.protocol import Batch, Schema, SinkUnavailable
from sinks.spool import SpoolConfig, open_spool
from tests.unit.pipeline.doubles import Config, Double, Shop, configs, delivering, numbers
from tests.unit.pipeline.samples import lines, numbered


@pytest.fixture
def spool(tmp_path: Path) -> SpoolConfig:
    return SpoolConfig(path=str(tmp_path / "spool.db"))


def stored(spool: SpoolConfig) -> int:
    """Batches in the file; the collector is not running."""
    with closing(sqlite3.connect(spool.path)) as database:
        (count,) = database.execute("SELECT count(*) FROM batch").fetchone()
        return int(count)


def shut(sink: Double) -> None:
    """Leave the gate shut."""


async def settled() -> None:
    """Until every batch that was offered is where it will stay; real threads do the storing."""
    for _ in range(50):
        await trio.testing.wait_all_tasks_blocked(0.002)


async def test_a_sink_that_keeps_up_needs_no_disk(spool: SpoolConfig) -> None:
    """Memory first: a sink that takes every batch at once leaves the spool empty all the time."""
    shop = Shop()
    async with delivering(shop, configs("a", when_full="spool"), spool=spool) as running:
        for _ in range(20):
            await running.offer(2)
            await trio.testing.wait_all_tasks_blocked()
        assert running.delivery.statistics()["sink_a"]["spool_batches"] == 0
    assert (shop.taken(), stored(spool)) == (numbers(40), 0)


async def test_backpressure_goes_to_disk_and_comes_back_in_order(spool: SpoolConfig) -> None:
    """Batches beyond the queue wait on the disk and follow in order, later ones behind them; none is lost."""
    shop = Shop(prepare=shut)
    async with delivering(shop, configs("a", when_full="spool", queue_batches=2), spool=spool) as running:
        for _ in range(12):
            await running.offer(3)
        await settled()
        assert running.delivery.statistics()["sink_a"]["spool_batches"] == 9
        assert running.ledger.kinds[59].sink("a").in_flight() == 36
        shop.sink().gate.set()
        await running.offer(3)
    assert shop.taken() == numbers(39)
    assert running.account() == {"offered": 39, "delivered": 39}
    assert stored(spool) == 0


async def test_the_next_run_takes_over(spool: SpoolConfig) -> None:
    """What a dead sink did not take by the deadline is in the spool, and the next run delivers it once, in order."""
    shop = Shop(prepare=shut)
    async with delivering(shop, configs("a", when_full="spool", queue_batches=2), spool=spool) as running:
        for _ in range(7):
            await running.offer(1)
        await settled()
        running.delivery.end_by(trio.current_time())
    assert running.account() == {"offered": 7, "spooled": 7}
    again = Shop()
    async with delivering(again, configs("a", when_full="spool"), spool=spool) as running:
        running.sent = 7
        await running.offer(2)
        running.sent = 2
    assert again.taken() == numbers(9)
    assert running.account() == {"offered": 2, "resumed": 7, "delivered": 9}
    assert stored(spool) == 0


async def test_every_batch_is_on_the_disk_first(spool: SpoolConfig) -> None:
    """With durability = "disk" a batch is in the spool while the sink works on it, and gone once it has it."""
    shop = Shop(prepare=shut)
    async with delivering(shop, configs("a", durability="disk"), spool=spool) as running:
        await running.offer(1, 1, 1)
        await settled()
        assert running.delivery.statistics()["sink_a"]["spool_batches"] == 3
        assert running.delivery.statistics()["sink_a"]["memory_batches"] == 2
        shop.sink().gate.set()
    assert (shop.taken(), stored(spool)) == (numbers(3), 0)


async def test_an_outage_leaves_another_sink_alone(spool: SpoolConfig) -> None:
    """While one sink's batches go to the disk, another has every batch, and the first gets all in the end."""
    shop = Shop(prepare=lambda sink: sink.gate.set() if sink.config.name == "well" else None)
    sinks = {**configs("dead", when_full="spool", queue_batches=1), **configs("well")}
    async with delivering(shop, sinks, spool=spool) as running:
        for _ in range(30):
            await running.offer(1)
        await settled()
        assert shop.taken("well") == numbers(30)
        assert shop.taken("dead") == []
        shop.sink("dead").gate.set()
    assert shop.taken("dead") == numbers(30)


async def test_a_full_spool_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    """Beyond the bound the oldest batches are dropped, each event counted, and the rest is delivered."""
    spool = SpoolConfig(path=str(tmp_path / "spool.db"), max_bytes=60_000)
    shop = Shop(prepare=shut)
    async with delivering(shop, configs("a", when_full="spool", queue_batches=1), spool=spool) as running:
        for _ in range(30):
            await running.offer(1000)
        await settled()
        shop.sink().gate.set()
    account = running.account()
    assert account["dropped_spool"] > 0
    assert account["delivered"] + account["dropped_spool"] == account["offered"] == 30_000
    assert sorted(set(shop.taken())) == shop.taken()
    assert set(shop.taken()) >= set(numbers(30_000)[-1000:])


async def test_a_blocking_spool_loses_nothing(tmp_path: Path) -> None:
    """With when_full = "block" the pipeline waits for room, and every event is delivered."""
    spool = SpoolConfig(path=str(tmp_path / "spool.db"), max_bytes=60_000, when_full="block")
    shop = Shop(prepare=shut)
    async with (
        delivering(shop, configs("a", when_full="spool", queue_batches=1), spool=spool, capacity=0) as running,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(running.offer, *[1000] * 30)
        await settled()
        shop.sink().gate.set()
    assert shop.taken() == numbers(30_000)


async def test_a_retried_batch_of_the_spool(spool: SpoolConfig) -> None:
    """A batch that the sink refuses for a while is offered again from where it waits, and delivered once."""
    shop = Shop()
    async with delivering(shop, configs("a", durability="disk"), spool=spool) as running:
        shop.sink().troubles = [SinkUnavailable("down")]
        await running.offer(2, 2)
    assert shop.taken() == numbers(4)


class OnlyEcs(Config, frozen=True, kw_only=True, tag="only_ecs"):
    """A sink that can deliver nothing else."""

    accepts: ClassVar[frozenset[Schema]] = frozenset({"ecs"})
    schema: Schema = "ecs"


class ReadsEcs(Double):
    """A sink that understands nothing else."""

    async def deliver(self, batch: Batch) -> None:
        self.taken += [json.loads(line)["process"]["pid"] for line in batch.encoded("ecs").splitlines()]


def reads_ecs(sink: Double) -> None:
    sink.__class__ = ReadsEcs


def leave(spool: SpoolConfig, *batches: list[bytes]) -> None:
    """What an earlier run left for the sink ``a``."""
    with closing(open_spool(spool, lost=lambda _sink, _counts: None)) as store:
        for batch in batches:
            store.put("a", store.number(), {59: len(batch)}, b"".join(line + b"\n" for line in batch))


@pytest.mark.parametrize("damage", [b"{half", b"", b'{"pid":"1"}', b"7", b'{"data_type":"59","event_id":"\xff"}'])
async def test_a_line_that_cannot_be_read_costs_that_line(spool: SpoolConfig, damage: bytes) -> None:
    """Of a batch from the disk what is no event is dropped and counted; the rest is delivered."""
    one, two = lines(numbered(2), "smith")
    leave(spool, [one, damage, two], [damage])
    shop = Shop()
    async with delivering(shop, configs("a", when_full="spool"), spool=spool) as running:
        pass
    assert shop.taken() == numbers(2)
    assert running.account() == {"resumed": 4, "delivered": 2, "dropped_spool": 2}
    assert stored(spool) == 0


async def test_a_line_that_cannot_be_read_is_counted_once(spool: SpoolConfig) -> None:
    """A batch with such a line that is not delivered stays as it is, and counts as spooled as a whole."""
    leave(spool, [*lines(numbered(2), "smith"), b"{half"])
    shop = Shop(prepare=shut)
    async with delivering(shop, configs("a", when_full="spool"), spool=spool) as running:
        await settled()
        running.delivery.end_by(trio.current_time())
    assert running.account() == {"resumed": 3, "spooled": 3}


async def test_events_of_a_schema_that_the_sink_cannot_take(spool: SpoolConfig) -> None:
    """Events that another kind of sink left under the same name are dropped and counted, and the sink goes on."""
    leave(spool, lines(numbered(3), "smith"), lines(numbered(2), "ecs"))
    shop = Shop(prepare=reads_ecs)
    async with delivering(shop, {"a": OnlyEcs(when_full="spool")}, spool=spool) as running:
        pass
    assert shop.taken() == numbers(2)
    assert running.account() == {"resumed": 5, "delivered": 2, "dropped_spool": 3}
