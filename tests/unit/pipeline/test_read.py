# SPDX-License-Identifier: GPL-2.0-or-later
"""The read stage: everything in the ring goes on, at the kernel's pace, and nothing is left at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio
import trio.testing

from pipeline.read import read
from probes.kernel.ring import Span
from tests.unit.probes.rings import Producer, new_ring

INTERVAL_S = 0.05


def nothing() -> None:
    """Nothing happens while the probes are detached."""


@dataclass
class Reading:
    """The stage at work."""

    producer: Producer
    spans: trio.MemoryReceiveChannel[Span]
    stop: trio.Event = field(default_factory=trio.Event)
    detached: bool = False

    def records(self) -> list[bytes]:
        """What has come through by now."""
        found: list[bytes] = []
        while True:
            try:
                span = self.spans.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return found
            found += (span.data[at : at + size] for at, size in span.records)


@asynccontextmanager
async def reading(*, last: Callable[[], None] = nothing, spans: int = 100) -> AsyncIterator[Reading]:
    """Read from an empty ring; `last` happens while the probes are detached."""
    send, receive = trio.open_memory_channel[Span](spans)
    with new_ring() as (producer, ring):
        state = Reading(producer, receive)

        async def detach() -> None:
            await trio.lowlevel.checkpoint()
            state.detached = True
            last()

        stage = partial(read, ring, send, span_bytes=256, poll_interval_s=INTERVAL_S, stop=state.stop, detach=detach)
        async with trio.open_nursery() as nursery:
            await nursery.start(stage)
            yield state
            state.stop.set()
        assert state.detached
        assert ring.pending() == 0


async def test_records_come_after_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    """A record that asked for no wakeup comes at the next look, at most an interval later."""
    async with reading() as state:
        await trio.sleep(1.01)
        state.producer.emit(b"quiet")
        await trio.sleep(INTERVAL_S)
        assert state.records() == [b"quiet"]


async def test_a_wakeup_is_obeyed_at_once(mock_clock: trio.testing.MockClock) -> None:
    """A wakeup is answered without waiting for the interval: here no time passes at all."""
    async with reading() as state:
        await trio.testing.wait_all_tasks_blocked()
        state.producer.emit(b"loud")
        state.producer.wake()
        with trio.fail_after(1):
            span = await state.spans.receive()
        assert span.records


async def test_a_full_span_is_followed_by_the_next(mock_clock: trio.testing.MockClock) -> None:
    """As long as spans come full the ring is read without a pause."""
    async with reading() as state:
        await trio.testing.wait_all_tasks_blocked()
        payloads = [bytes([at]) * 120 for at in range(20)]
        for payload in payloads:
            state.producer.emit(payload)
        state.producer.wake()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert state.records() == payloads


async def test_stop_ends_a_wait_at_once(mock_clock: trio.testing.MockClock) -> None:
    """A stop is obeyed without waiting for the interval."""
    async with reading() as state:
        await trio.testing.wait_all_tasks_blocked()
    assert state.detached


async def test_nothing_is_left_behind(autojump_clock: trio.testing.MockClock) -> None:
    """What the probes sent up to the moment that they are detached is read; then the channel closes."""
    late = [bytes([at]) * 120 for at in range(25)]
    state: Reading

    def send_more() -> None:
        for payload in late:
            state.producer.emit(payload)

    async with reading(last=send_more) as state:
        await trio.testing.wait_all_tasks_blocked()
        state.producer.emit(b"early")
    assert state.records() == [b"early", *late]
    try:
        state.spans.receive_nowait()
    except trio.EndOfChannel:
        return
    raise AssertionError("the channel is still open")


async def test_a_full_queue_holds_the_reader(autojump_clock: trio.testing.MockClock) -> None:
    """While the next stage takes nothing the ring keeps its records, and none is lost."""
    async with reading(spans=0) as state:
        payloads = [bytes([at]) * 500 for at in range(6)]
        for payload in payloads:
            state.producer.emit(payload)
        await trio.sleep(10)
        assert state.producer.room < state.producer.size
        taken: list[bytes] = []
        while len(taken) < len(payloads):
            span = await state.spans.receive()
            taken += (span.data[at : at + size] for at, size in span.records)
        assert taken == payloads
