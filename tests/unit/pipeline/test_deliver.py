# SPDX-License-Identifier: GPL-2.0-or-later
"""The deliver stage: every sink at its own pace, every event accounted for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio
import trio.testing

from pipeline.batch import Batch
from pipeline.deliver import Delivery
from pipeline.stages import new_ledger
from sinks.protocol import SinkClosed, SinkError, SinkUnavailable
from tests.unit.pipeline.doubles import Config, Double, Shop, closed, configs, delivering, numbers
from tests.unit.pipeline.samples import batch_of, numbered


def stubborn(sink: Double) -> None:
    """Leave the gate shut."""


async def test_every_batch_to_every_sink(autojump_clock: trio.testing.MockClock) -> None:
    """Each sink gets every batch in order; at the end all are closed and the ledger too."""
    shop = Shop()
    async with delivering(shop, configs("a", "b")) as running:
        await running.offer(3, 1, 5)
    assert shop.taken("a") == shop.taken("b") == numbers(9)
    assert closed([shop.sink("a"), shop.sink("b")])
    assert running.account("a") == running.account("b") == {"offered": 9, "delivered": 9}


async def test_what_waits_is_delivered_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """The end of the batches is not the end of the sinks: their queues are emptied first."""
    shop = Shop(prepare=stubborn)
    async with delivering(shop, configs("a")) as running:
        await running.offer(1, 1, 1)
        await trio.testing.wait_all_tasks_blocked()
        await running.send.aclose()
        await trio.sleep(10)
        assert shop.sink().is_open
        shop.sink().gate.set()
    assert shop.taken() == numbers(3)


async def test_an_unavailable_sink_is_tried_again_ever_later(autojump_clock: trio.testing.MockClock) -> None:
    """A batch that was not taken is offered again, after pauses that grow to a limit; none overtakes it."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        shop.sink().troubles = [SinkUnavailable("No space left on device") for _ in range(12)]
        await running.offer(2, 2)
    assert shop.taken() == numbers(4)
    tries = shop.sink().tries[:13]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert 0 < pauses[0] <= 0.5
    assert max(pauses) <= 10
    assert pauses[-1] > 4 * pauses[0]
    assert len(set(pauses)) > 6, "pauses without jitter make all sinks knock at once"
    assert running.account() == {"offered": 4, "delivered": 4}


async def test_a_full_queue_drops_and_counts(autojump_clock: trio.testing.MockClock) -> None:
    """What a full queue cannot hold is dropped and counted by event; what it held is still delivered."""
    shop = Shop(prepare=stubborn)
    async with delivering(shop, configs("a", queue_batches=2)) as running:
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        await running.offer(1, 1, 5, 7)
        await trio.testing.wait_all_tasks_blocked()
        assert running.delivery.statistics()["sink_a"] == {"taken": 0, "queue_batches": 2}
        shop.sink().gate.set()
    assert shop.taken() == numbers(3)
    assert running.account() == {"offered": 15, "delivered": 3, "dropped_queue": 12}


async def test_a_blocking_sink_holds_the_pipeline(autojump_clock: trio.testing.MockClock) -> None:
    """With when_full = "block" nothing is dropped: the batches wait until the sink takes them."""
    shop = Shop(prepare=stubborn)
    async with delivering(shop, configs("a", queue_batches=1, when_full="block"), capacity=0) as running:
        with trio.move_on_after(60) as held:
            await running.offer(*[1] * 9)
        assert held.cancelled_caught
        shop.sink().gate.set()
        running.sent -= 1  # the one that the source still has
        await running.offer(1, 1)
    assert shop.taken() == numbers(running.sent)
    assert running.account() == {"offered": running.sent, "delivered": running.sent}


async def test_a_slow_sink_delays_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """While one sink takes nothing, another has every batch at once."""
    shop = Shop(prepare=lambda sink: sink.gate.set() if sink.config.name == "quick" else None)
    async with delivering(shop, configs("slow", "quick", queue_batches=3)) as running:
        for _ in range(20):
            await running.offer(1)
            await trio.testing.wait_all_tasks_blocked()
        assert shop.taken("quick") == numbers(20)
        assert shop.taken("slow") == []
        assert trio.current_time() == 0
        shop.sink("slow").gate.set()
    assert running.account("slow") == {"offered": 20, "delivered": 4, "dropped_queue": 16}


async def test_a_retrying_sink_delays_no_other(autojump_clock: trio.testing.MockClock) -> None:
    """While one sink is tried again and again, another has every batch at once."""
    shop = Shop()
    async with delivering(shop, configs("ill", "well")) as running:
        shop.sink("ill").troubles = [SinkUnavailable("down") for _ in range(5)]
        await running.offer(1, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert (shop.taken("well"), shop.taken("ill"), trio.current_time()) == (numbers(2), [], 0)
    assert shop.taken("ill") == numbers(2)


async def test_a_deadline_ends_a_dead_sink(autojump_clock: trio.testing.MockClock) -> None:
    """What a sink has not delivered at the deadline is counted as dropped; the others have it all."""
    shop = Shop(prepare=lambda sink: sink.gate.set() if sink.config.name == "well" else None)
    async with delivering(shop, configs("dead", "well", queue_batches=2)) as running:
        for _ in range(5):
            await running.offer(1)
            await trio.testing.wait_all_tasks_blocked()
        running.delivery.end_by(trio.current_time() + 4)
    assert trio.current_time() == pytest.approx(4)
    assert shop.taken("well") == numbers(5)
    assert running.account("dead") == {"offered": 5, "dropped_queue": 2, "dropped_shutdown": 3}
    assert closed([shop.sink("dead"), shop.sink("well")])


async def test_a_deadline_ends_a_blocking_sink(autojump_clock: trio.testing.MockClock) -> None:
    """Batches that wait before a dead sink's full queue are counted as dropped at the deadline."""
    shop = Shop(prepare=stubborn)
    async with delivering(shop, configs("dead", queue_batches=2, when_full="block")) as running:
        await running.offer(1, 1, 1, 1, 1)
        await trio.testing.wait_all_tasks_blocked()
        running.delivery.end_by(trio.current_time() + 4)
    assert trio.current_time() == pytest.approx(4)
    assert running.account("dead") == {"offered": 5, "dropped_shutdown": 5}


async def test_a_deadline_ends_a_retry(autojump_clock: trio.testing.MockClock) -> None:
    """A sink that is being tried again is given up at the deadline, not at the next try."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        shop.sink().troubles = [SinkUnavailable("down")] * 1000
        await running.offer(3)
        await trio.testing.wait_all_tasks_blocked()
        running.delivery.end_by(trio.current_time() + 0.01)
    assert trio.current_time() == pytest.approx(0.01)
    assert running.account() == {"offered": 3, "dropped_shutdown": 3}


async def test_a_closed_reader_is_a_quiet_end(autojump_clock: trio.testing.MockClock) -> None:
    """A sink whose reader went away ends without an error; what it did not take is counted."""
    shop = Shop()
    async with delivering(shop, configs("a", "b")) as running:
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        shop.sink("a").troubles = [SinkClosed()]
        await running.offer(1, 1, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert closed([shop.sink("a")])
        assert not running.delivery.readers_gone.is_set()
        await running.offer(1)
    assert shop.taken("b") == numbers(5)
    assert running.account("a") == {"offered": 5, "delivered": 1, "dropped_shutdown": 4}


async def test_no_reader_is_left(autojump_clock: trio.testing.MockClock) -> None:
    """When the last reader has gone, whoever waits for it is told."""
    shop = Shop()
    async with delivering(shop, configs("a", "b")) as running:
        for name in ("a", "b"):
            assert not running.delivery.readers_gone.is_set()
            shop.sink(name).troubles = [SinkClosed()]
            await running.offer(1)
            await trio.testing.wait_all_tasks_blocked()
        await running.delivery.readers_gone.wait()


async def test_a_sink_that_cannot_be_opened_is_an_error_before_the_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A sink that cannot be opened fails the start, and leaves no other open."""
    shop = Shop(refused={9})
    delivery = Delivery(shop.open_sink, new_ledger())
    send, receive = trio.open_memory_channel[Batch](0)
    sinks = {**configs("a"), "b": Config(name="b", option=9)}
    with pytest.RaisesGroup(SinkError, allow_unwrapped=True, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(delivery.run, receive, sinks)
    assert closed([shop.sink("a")])
    send.close()
    receive.close()


async def test_cancellation_releases_the_sinks(autojump_clock: trio.testing.MockClock) -> None:
    """Cancelling the stage closes every sink, and what it held is counted."""
    shop = Shop(prepare=stubborn)
    delivery = Delivery(shop.open_sink, ledger := new_ledger())
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Batch](5)
        await nursery.start(delivery.run, receive, configs("a", "b", queue_batches=1))
        await send.send(batch_of(*numbered(2)))
        await send.send(batch_of(*numbered(1)))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert closed([shop.sink("a"), shop.sink("b")])
    for name in ("a", "b"):
        assert ledger.kinds[59].sink(name).dropped_shutdown == 3
        assert ledger.kinds[59].sink(name).in_flight() == 0
    send.close()


async def test_statistics(autojump_clock: trio.testing.MockClock) -> None:
    """Each sink's own figures come with its queue, under its name."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        await running.offer(4)
        await trio.testing.wait_all_tasks_blocked()
        assert running.delivery.statistics() == {"sink_a": {"taken": 4, "queue_batches": 0}}
