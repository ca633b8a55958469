# SPDX-License-Identifier: GPL-2.0-or-later
"""Sinks that come, go and change while batches flow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from pipeline.batch import Batch
from pipeline.deliver import Delivery
from pipeline.stages import new_ledger
from sinks.protocol import SinkClosed, SinkConfig, SinkError, SinkUnavailable
from tests.unit.pipeline.doubles import Config, Double, Shop, closed, configs, delivering, numbers

PATIENCE_S = 4.0


def stubborn(sink: Double) -> None:
    """Leave the gate shut."""


def only_option_0_stubborn(sink: Double) -> None:
    """Leave the gate of the first configuration shut."""
    if sink.config.option:
        sink.gate.set()


async def test_what_is_unchanged_is_reopened() -> None:
    """A sink whose configuration is the same stays, and lets go of its file before the next batch."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        await running.delivery.reload(configs("a"), patience_s=PATIENCE_S)
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        assert shop.sink().reopened == 1
        await running.offer(1)
    assert len(shop.opened["a"]) == 1
    assert shop.sink().reopened == 1
    assert shop.taken() == numbers(2)


class Stuck(Double):
    """A sink that cannot be reopened."""

    async def reopen(self) -> None:
        raise SinkError("the folder is gone")


async def test_a_reopen_that_fails_loses_nothing() -> None:
    """A sink that cannot be reopened goes on as it was."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        shop.sink().__class__ = Stuck
        await running.delivery.reload(configs("a"), patience_s=PATIENCE_S)
        await running.offer(3)
    assert shop.taken() == numbers(3)


async def test_what_is_removed_is_drained(autojump_clock: trio.testing.MockClock) -> None:
    """A sink that is no longer named takes what it was offered, is closed, and gets nothing more."""
    shop = Shop(prepare=stubborn)
    async with delivering(shop, configs("a", "b")) as running, trio.open_nursery() as nursery:
        shop.sink("b").gate.set()
        await running.offer(1, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: running.delivery.reload(configs("b"), patience_s=PATIENCE_S))
        await trio.sleep(1)
        assert shop.sink("a").is_open
        shop.sink("a").gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert closed([shop.sink("a")])
        await running.offer(1)
    assert (shop.taken("a"), shop.taken("b")) == (numbers(2), numbers(3))
    assert running.account("a") == {"offered": 2, "delivered": 2}


async def test_what_is_new_takes_part() -> None:
    """A sink that is named for the first time gets every batch from then on."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        await running.delivery.reload(configs("a", "b"), patience_s=PATIENCE_S)
        await running.offer(2)
    assert (shop.taken("a"), shop.taken("b")) == (numbers(3), [1, 2])


async def test_what_changed_is_replaced_without_a_loss() -> None:
    """Of a changed sink the old one empties its queue and is closed before the new one is opened."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        for option in range(1, 6):
            await running.offer(1, 1)
            await running.delivery.reload(configs("a", option=option), patience_s=PATIENCE_S)
            assert not running.delivery.readers_gone.is_set()
        await running.offer(1)
    assert [sink.config.option for sink in shop.opened["a"]] == list(range(6))
    assert shop.taken() == numbers(11)
    assert running.account() == {"offered": 11, "delivered": 11}


async def test_a_changed_sink_ends_nothing() -> None:
    """Replacing the only sink is not the end of all readers: the pipeline goes on."""
    shop = Shop()
    async with delivering(shop, configs("a")) as running:
        await running.delivery.reload(configs("b"), patience_s=PATIENCE_S)
        await running.delivery.reload(configs("b", option=1), patience_s=PATIENCE_S)
        assert not running.delivery.readers_gone.is_set()


async def test_patience_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    """A sink that takes nothing is given up after the patience; what it held is counted."""
    shop = Shop(prepare=only_option_0_stubborn)
    async with delivering(shop, configs("a")) as running:
        await running.offer(1, 1)
        await trio.testing.wait_all_tasks_blocked()
        await running.delivery.reload(configs("a", option=1), patience_s=PATIENCE_S)
        assert trio.current_time() == pytest.approx(PATIENCE_S)
        await running.offer(1)
    assert shop.taken() == [2]
    assert running.account() == {"offered": 3, "delivered": 1, "dropped_shutdown": 2}


async def test_the_old_sink_comes_back_where_the_new_one_fails() -> None:
    """A changed sink that cannot be opened is an error, and the old one takes what comes next."""
    shop = Shop(refused={9})
    async with delivering(shop, configs("a")) as running:
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SinkError, match="a cannot be opened"):
            await running.delivery.reload(configs("a", option=9), patience_s=PATIENCE_S)
        assert not running.delivery.readers_gone.is_set()
        await running.offer(1)
    assert [sink.config.option for sink in shop.opened["a"]] == [0, 0]
    assert shop.taken() == numbers(2)


async def test_where_the_old_sink_fails_too_it_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    """With neither the new nor the old sink, what the queue cannot hold is counted, and the old one comes later."""
    shop = Shop(refused={9})
    async with delivering(shop, configs("a", queue_batches=2)) as running:
        shop.refused.add(0)
        with pytest.raises(SinkError, match="a cannot be opened"):
            await running.delivery.reload(configs("a", option=9), patience_s=PATIENCE_S)
        await running.offer(1, 1, 1)
        await trio.sleep(10)
        assert running.account() == {"offered": 3, "dropped_queue": 1}
        shop.refused.remove(0)
        await trio.sleep(10)
    assert shop.taken() == numbers(2)
    assert running.account() == {"offered": 3, "delivered": 2, "dropped_queue": 1}


async def test_without_old_and_new_sink_the_end_comes_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    """A sink that is still being tried at the deadline is given up, and what waited for it is counted."""
    shop = Shop(refused={9})
    async with delivering(shop, configs("a")) as running:
        shop.refused.add(0)
        with pytest.raises(SinkError):
            await running.delivery.reload(configs("a", option=9), patience_s=PATIENCE_S)
        await running.offer(3)
        running.delivery.end_by(trio.current_time() + 7)
    assert trio.current_time() == pytest.approx(7)
    assert running.account() == {"offered": 3, "dropped_shutdown": 3}


async def test_a_reload_waits_for_the_first_sinks(autojump_clock: trio.testing.MockClock) -> None:
    """While the first sinks are being opened a reload opens none beside them; it changes them afterwards."""
    shop = Shop()
    gate = trio.Event()

    @asynccontextmanager
    async def open_slowly(config: SinkConfig) -> AsyncIterator[Double]:
        await gate.wait()
        async with shop.open_sink(config) as sink:
            yield sink

    delivery = Delivery(open_slowly, new_ledger())
    send, receive = trio.open_memory_channel[Batch](0)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nursery.start, partial(delivery.run, receive, configs("a")))
            nursery.start_soon(partial(delivery.reload, configs("a", option=1), patience_s=PATIENCE_S))
            await trio.sleep(10)
            gate.set()
            await trio.sleep(10)
            send.close()
    assert [sink.config.option for sink in shop.opened["a"]] == [0, 1]
    assert closed(shop.opened["a"])


async def test_a_new_sink_that_fails_leaves_the_others() -> None:
    """A new sink that cannot be opened is an error; those that were there go on."""
    shop = Shop(refused={9})
    async with delivering(shop, configs("a")) as running:
        sinks = {**configs("a"), "b": Config(name="b", option=9)}
        with pytest.raises(SinkError, match="b cannot be opened"):
            await running.delivery.reload(sinks, patience_s=PATIENCE_S)
        assert not running.delivery.readers_gone.is_set()
        await running.offer(1)
    assert shop.taken("a") == numbers(1)


async def test_a_sink_whose_reader_left_can_be_replaced() -> None:
    """A sink that ended by itself is replaced like any other."""
    shop = Shop()
    async with delivering(shop, configs("a", "b")) as running:
        shop.sink("a").troubles = [SinkClosed()]
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked()
        await running.delivery.reload({**configs("a", option=1), **configs("b")}, patience_s=PATIENCE_S)
        await running.offer(1)
    assert shop.taken("a") == [1]
    assert shop.taken("b") == numbers(2)


async def test_a_blocked_sink_can_be_replaced(autojump_clock: trio.testing.MockClock) -> None:
    """A sink that holds up the whole pipeline can be reloaded away, within the patience."""
    shop = Shop(prepare=only_option_0_stubborn)
    blocking = configs("a", queue_batches=1, when_full="block")
    with trio.fail_after(60):
        async with delivering(shop, blocking) as running:
            await running.offer(1, 1, 1, 1)
            await trio.testing.wait_all_tasks_blocked()
            await running.delivery.reload(configs("a", option=1), patience_s=PATIENCE_S)
            await running.offer(1)
    assert trio.current_time() <= 2 * PATIENCE_S
    assert shop.taken()[-1] == 4
    assert shop.taken() == sorted(shop.taken())


@pytest.mark.parametrize("after", [configs("a", option=1), configs("a", "b"), configs("a"), {}])
async def test_a_reload_at_the_end_holds_up_nothing(
    after: dict[str, Config], autojump_clock: trio.testing.MockClock
) -> None:
    """A reload while the last batches are delivered leaves no sink behind that would never end."""
    shop = Shop(prepare=stubborn)
    with trio.fail_after(60):
        async with delivering(shop, configs("a")) as running:
            await running.offer(1, 1)
            await running.send.aclose()
            await trio.testing.wait_all_tasks_blocked()
            running.delivery.end_by(trio.current_time() + PATIENCE_S)
            await running.delivery.reload(after, patience_s=PATIENCE_S)
    assert closed(sink for sinks in shop.opened.values() for sink in sinks)


async def test_reloads_under_load(autojump_clock: trio.testing.MockClock) -> None:
    """Reload after reload, with a sink that is now and then unavailable, no event is lost or comes twice."""
    shop = Shop()
    async with (
        delivering(shop, configs("a", queue_batches=128), capacity=0) as running,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(lambda: running.offer(*[1] * 100))
        for option in range(1, 20):
            shop.sink().troubles.append(SinkUnavailable("busy"))
            sinks = configs("a", option=option % 3, queue_batches=128)
            await running.delivery.reload(sinks, patience_s=60)
    assert shop.taken() == numbers(100)
