# SPDX-License-Identifier: GPL-2.0-or-later
"""The batch stage: by number, by age, and the rest at the end."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch, Gatherer, Needs, count
from pipeline.latency import Latency
from probes.event import HostEvent
from probes.process.execve import Execve
from probes.process.exit import Exit
from tests.unit.pipeline.samples import batch_of, encoder, made, numbered, pids

Send = trio.MemorySendChannel[list[HostEvent]]
Receive = trio.MemoryReceiveChannel[Batch]


@asynccontextmanager
async def stage(
    *, events: int, age_s: float, size_bytes: int = 1 << 30, capacity: float = math.inf
) -> AsyncIterator[tuple[Send, Receive]]:
    """A running stage: where events go in, and where batches come out."""
    events_in, events_out = trio.open_memory_channel[list[HostEvent]](0)
    batches_in, batches_out = trio.open_memory_channel[Batch](capacity)

    async def run() -> None:
        async with (
            events_out,
            Gatherer(
                send=batches_in,
                encode=encoder(),
                needs=lambda: Needs(frozenset({"smith"}), events=False),
                boot_offset=lambda: 0,
                events=events,
                size_bytes=size_bytes,
                age_s=age_s,
                latency=Latency(),
            ).running() as gather,
        ):
            async for some in events_out:
                await gather(some)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async with events_in, batches_out:
            yield events_in, batches_out


async def test_by_number(autojump_clock: trio.testing.MockClock) -> None:
    """A batch goes on as soon as it has enough events, without waiting for its age."""
    async with stage(events=5, age_s=60) as (send, receive):
        await send.send(numbered(3))
        await send.send(numbered(4, start=3))
        assert pids(await receive.receive()) == list(range(7))
        assert trio.current_time() == 0


async def test_by_bytes(autojump_clock: trio.testing.MockClock) -> None:
    """A batch goes on as soon as its lines are long enough, however few events they are."""
    one = len(batch_of(*numbered(1)).encoded("smith"))
    async with stage(events=1000, age_s=60, size_bytes=5 * one) as (send, receive):
        await send.send(numbered(3))
        await send.send(numbered(4, start=3))
        assert pids(await receive.receive()) == list(range(7))
        assert receive.statistics().current_buffer_used == 0
        await send.send(numbered(5, start=2))
        assert pids(await receive.receive()) == list(range(2, 7))


async def test_by_age(autojump_clock: trio.testing.MockClock) -> None:
    """Fewer events go on when the oldest of them has waited its time; then the clock starts anew."""
    async with stage(events=100, age_s=0.5) as (send, receive):
        await trio.sleep(10)
        await send.send(numbered(1))
        await trio.sleep(0.4)
        await send.send(numbered(1, start=1))
        assert pids(await receive.receive()) == [0, 1]
        assert trio.current_time() == 10.5
        await trio.sleep(10)
        await send.send(numbered(1, start=2))
        assert pids(await receive.receive()) == [2]
        assert trio.current_time() == 21.0


async def test_the_rest_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """What waits when the source ends goes on at once; then the channel closes."""
    async with stage(events=100, age_s=60) as (send, receive):
        await send.send(numbered(2))
        await send.aclose()
        assert [pids(batch) async for batch in receive] == [[0, 1]]
        assert trio.current_time() == 0


async def test_a_batch_that_waits_is_not_lost_at_the_end(autojump_clock: trio.testing.MockClock) -> None:
    """A batch that goes on by age, and finds the queue full until the source has ended, comes all the same."""
    async with stage(events=100, age_s=0.5, capacity=0) as (send, receive):
        await send.send(numbered(1))
        await trio.sleep(1)
        await send.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert [pids(batch) async for batch in receive] == [[0]]


async def test_nothing_is_no_batch(autojump_clock: trio.testing.MockClock) -> None:
    """A source that ends without an event gives no batch."""
    async with stage(events=1, age_s=1) as (send, receive):
        await send.aclose()
        assert [batch async for batch in receive] == []


async def test_an_empty_list_holds_up_nothing(mock_clock: trio.testing.MockClock) -> None:
    """A span that held no event at all starts no clock; the stage takes what comes next."""
    async with stage(events=100, age_s=0.5) as (send, receive):
        await send.send([])
        mock_clock.jump(1)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        send.send_nowait(numbered(1))  # raises if nobody is waiting for it
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.5)
        while not (batch := await receive.receive()):
            pass
        assert pids(batch) == [0]


async def test_a_receiver_that_leaves_ends_the_stage() -> None:
    """Without anyone who takes batches the stage fails instead of hoarding."""
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True):
        async with stage(events=1, age_s=1) as (send, receive):
            await receive.aclose()
            await send.send(numbered(1))


async def test_a_full_queue_holds_the_source(autojump_clock: trio.testing.MockClock) -> None:
    """While nobody takes a batch the stage takes no more events."""
    async with stage(events=1, age_s=1, capacity=0) as (send, receive):
        await send.send(numbered(1))
        with trio.move_on_after(60) as held:
            await send.send(numbered(1, start=1))
        assert held.cancelled_caught
        await send.aclose()
        assert [pids(batch) async for batch in receive] == [[0]]


LISTS = st.lists(st.tuples(st.integers(1, 7), st.floats(0, 2)), max_size=12)


@given(LISTS, st.integers(1, 10), st.floats(0.01, 3))
def test_order_is_kept(lists: list[tuple[int, float]], events: int, age_s: float) -> None:
    """However events arrive, every one comes out once and in order, in time, and no batch is empty."""
    arrivals: list[float] = []
    waits: list[float] = []

    async def take(receive: Receive) -> None:
        async for batch in receive:
            assert len(batch) > 0
            first = pids(batch)[0]
            assert pids(batch) == list(range(first, first + len(batch)))
            assert first == len(waits)
            waits.extend(trio.current_time() - arrivals[pid] for pid in pids(batch))

    async def run() -> None:
        async with trio.open_nursery() as nursery, stage(events=events, age_s=age_s) as (send, receive):
            nursery.start_soon(take, receive.clone())
            for number, pause in lists:
                await trio.sleep(pause)
                arrivals.extend([trio.current_time()] * number)
                await send.send(numbered(number, start=len(arrivals) - number))

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(waits) == sum(number for number, _ in lists)
    assert all(wait <= age_s + 1e-6 for wait in waits)


def test_counts_are_by_kind() -> None:
    """A batch knows how many events of each kind it holds."""
    events = [made(Execve), made(Exit), made(Execve)]
    batch = batch_of(*events)
    assert count(events) == batch.counts == {59: 2, 60: 1}
    assert len(batch) == 3


async def test_only_a_clock_that_was_set_moves_times(autojump_clock: trio.testing.MockClock) -> None:
    """Offsets that differ by what reading two clocks takes are one offset; a step of the clock is seen at once."""
    offsets = iter([100, 350, 60, 5_000_000, 5_000_900])
    batches_in, batches_out = trio.open_memory_channel[Batch](9)
    needs = Needs(frozenset({"smith"}), events=False)
    async with Gatherer(
        send=batches_in,
        encode=encoder(),
        needs=lambda: needs,
        boot_offset=lambda: next(offsets),
        events=1,
        size_bytes=1 << 30,
        age_s=60,
        latency=Latency(),
    ).running() as gather:
        for start in range(4):
            await gather(numbered(1, start=start))
    assert [batch.boot_offset_ns async for batch in batches_out] == [100, 100, 5_000_000, 5_000_000]
