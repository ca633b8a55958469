# SPDX-License-Identifier: GPL-2.0-or-later
"""The reader of the ring buffer, on a memory file laid out as the kernel's."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.probes.rings import BUSY, DISCARDED, PAGE, Producer, drain, new_ring, reader_of

STARTS = st.one_of(st.just(0), st.integers(0, PAGE // 8), st.integers(1 << 29, 1 << 40)).map(lambda at: at * 8)
"""Positions that the ring may have reached: they only grow, far beyond 32 bits."""


def test_an_empty_ring_has_nothing() -> None:
    """Nothing is read from an empty ring, and nothing is freed."""
    with new_ring(start=4096) as (producer, ring):
        assert ring.read(1 << 20) is None
        assert ring.pending() == 0
        assert producer.consumed == 4096


@given(STARTS, st.lists(st.binary(max_size=200), max_size=12))
def test_records_come_in_order(start: int, payloads: list[bytes]) -> None:
    """Every record is read once, whole and in order, wherever the ring stands."""
    with new_ring(start=start) as (producer, ring):
        for payload in payloads:
            producer.emit(payload)
        assert ring.pending() == sum(8 + len(each) + -len(each) % 8 for each in payloads)
        assert drain(ring) == payloads
        assert ring.pending() == 0


@given(STARTS, st.lists(st.lists(st.binary(max_size=300), max_size=6), max_size=20), st.integers(1, PAGE))
def test_any_number_of_turns(start: int, rounds: list[list[bytes]], limit: int) -> None:
    """Round after round the records come whole, those that lie across the ring's end too."""
    with new_ring(start=start) as (producer, ring):
        for payloads in rounds:
            for payload in payloads:
                producer.emit(payload)
            assert drain(ring, limit) == payloads


@pytest.mark.parametrize("start", [PAGE - 8, PAGE - 16, PAGE - 64, 1 << 40, (1 << 32) - 8])
def test_a_record_across_the_end(start: int) -> None:
    """A record that begins at the ring's end and goes on at its beginning comes in one piece."""
    payload = bytes(range(1, 129))
    with new_ring(start=start) as (producer, ring):
        producer.emit(payload)
        assert drain(ring) == [payload]


@pytest.mark.parametrize("start", [0, 8, PAGE - 8])
def test_a_full_ring(start: int) -> None:
    """A ring that is full to the last byte is read whole, and is free again."""
    with new_ring(start=start) as (producer, ring):
        payloads = [bytes([65 + at]) * 504 for at in range(PAGE // 512)]
        for payload in payloads:
            producer.emit(payload)
        assert ring.pending() == PAGE
        span = ring.read(PAGE)
        assert span is not None
        assert [span.data[at : at + size] for at, size in span.records] == payloads
        assert producer.room == PAGE


def test_reading_stops_at_a_busy_record() -> None:
    """A reserved record holds back those behind it until it is written; then all come in order."""
    with new_ring() as (producer, ring):
        producer.emit(b"first")
        place = producer.emit(bytes(6), BUSY)
        producer.emit(b"third")
        assert drain(ring) == [b"first"]
        assert ring.read(1 << 20) is None
        assert producer.consumed == place
        producer.commit(place, b"second")
        assert drain(ring) == [b"second", b"third"]


def test_discarded_records_are_freed_unread() -> None:
    """A discarded record is skipped and its room freed, even where nothing else is there."""
    with new_ring() as (producer, ring):
        producer.emit(b"gone", DISCARDED)
        assert drain(ring) == []
        assert producer.room == PAGE
        for payload, flags in ((b"one", 0), (b"gone too", DISCARDED), (b"two", 0)):
            producer.emit(payload, flags)
        assert drain(ring) == [b"one", b"two"]
        assert producer.room == PAGE


def test_a_busy_record_may_be_discarded() -> None:
    """A reservation that is given up does not stay in the way."""
    with new_ring() as (producer, ring):
        place = producer.emit(bytes(4), BUSY | DISCARDED)
        producer.emit(b"next")
        assert drain(ring) == []
        producer.commit(place, bytes(4), DISCARDED)
        assert drain(ring) == [b"next"]


@given(st.lists(st.integers(0, 600), min_size=1, max_size=6), st.integers(1, PAGE))
def test_limit(sizes: list[int], limit: int) -> None:
    """A span begins no record at or behind the limit, and always holds at least one."""
    with new_ring() as (producer, ring):
        for size in sizes:
            producer.emit(bytes(size))
        spans = []
        while (span := ring.read(limit)) is not None:
            spans.append(span)
        assert [size for span in spans for _, size in span.records] == sizes
        assert all(len(span.records) >= 1 for span in spans)
        assert all(at - 8 < limit for span in spans for at, _ in span.records)


def test_room_is_freed_at_once() -> None:
    """What was read is the producer's again before anyone has looked at it."""
    with new_ring() as (producer, ring):
        producer.emit(b"a" * 100)
        span = ring.read(1 << 20)
        assert producer.room == PAGE
        producer.emit(b"b" * 3000)
        producer.emit(b"c" * 900)
        assert span is not None
        assert span.data[8:108] == b"a" * 100


@dataclass
class Step:
    """One thing that a producer does."""

    payload: bytes = b""
    flags: int = 0
    commits: bool = False


STEPS = st.one_of(
    st.binary(max_size=60).map(Step),
    st.binary(max_size=60).map(lambda payload: Step(payload, DISCARDED)),
    st.binary(max_size=60).map(lambda payload: Step(payload, BUSY)),
    st.just(Step(commits=True)),
)


@dataclass
class Model:
    """What a reader may see: written records up to the first busy one."""

    records: list[Step] = field(default_factory=list)
    busy: list[tuple[int, Step]] = field(default_factory=list)

    def readable(self) -> list[bytes]:
        seen: list[bytes] = []
        while self.records and not self.records[0].flags & BUSY:
            record = self.records.pop(0)
            if not record.flags & DISCARDED:
                seen.append(record.payload)
        return seen


@given(STARTS, st.lists(STEPS, max_size=30), st.integers(1, PAGE))
def test_interleaved_producer(start: int, steps: list[Step], limit: int) -> None:
    """Whatever a producer writes, reserves, completes and discards, nothing is lost or early."""
    model = Model()
    with new_ring(start=start) as (producer, ring):
        for step in steps:
            if step.commits:
                if model.busy:
                    place, record = model.busy.pop(0)
                    producer.commit(place, record.payload)
                    record.flags = 0
            elif producer.room >= 80:
                record = Step(step.payload, step.flags)
                model.records.append(record)
                place = producer.emit(bytes(len(step.payload)) if step.flags & BUSY else step.payload, step.flags)
                if step.flags & BUSY:
                    model.busy.append((place, record))
            assert drain(ring, limit) == model.readable()


async def test_a_wakeup_ends_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    """The kernel's wakeup ends the wait before its time, and once for all: it is an edge, not a level."""
    with new_ring() as (producer, ring):
        producer.emit(b"unread")
        producer.wake()
        await ring.wait(5)
        assert trio.current_time() == 0
        await ring.wait(5)
        assert trio.current_time() == 5


async def test_a_wait_ends_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    """Without a wakeup the wait lasts its time: records that asked for none are read then."""
    with new_ring() as (_producer, ring):
        await ring.wait(0.25)
        assert trio.current_time() == 0.25


def test_close_leaves_the_descriptor() -> None:
    """Closing the reader lets go of every map of the ring; its descriptor stays its owner's."""
    with Producer(PAGE) as producer:
        with reader_of(producer) as ring:
            producer.emit(b"x")
            assert drain(ring) == [b"x"]
        assert os.fstat(producer.fd).st_size == 3 * PAGE
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert maps.count("/memfd:ring") == 1
