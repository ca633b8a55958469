# SPDX-License-Identifier: GPL-2.0-or-later
"""The decode stage: records to events, and what is no record counted."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode import Sequences, decode, decode_span
from pipeline.gap import Gap
from pipeline.latency import Latency
from pipeline.ledger import Ledger
from pipeline.stages import new_ledger
from probes.decoder import Decoder
from probes.event import HostEvent, ProcessEvent
from probes.kernel.ring import Span
from probes.process.execve import Execve
from probes.process.exit import Exit
from tests.unit.probes import wire

DECODER = Decoder(wire.EVENTS)


@dataclass
class Stage:
    """What one run of the stage has beside its channels."""

    ledger: Ledger = field(default_factory=new_ledger)

    def __post_init__(self) -> None:
        self.sequences = Sequences(self.ledger)

    def decode(self, span: Span) -> list[HostEvent]:
        return decode_span(span, DECODER, self.sequences, self.ledger)

    def malformed(self) -> int:
        return sum(kind.malformed for kind in self.ledger.kinds.values())


def records_of(made: list[tuple[type[ProcessEvent], dict[str, Any]]]) -> list[bytes]:
    """Records whose numbers follow each other, so that there is no gap."""
    numbers: dict[tuple[int, int], int] = {}
    records = []
    for event, values in made:
        at = event.data_type, values["cpu"]
        numbers[at] = numbers.get(at, 0) + 1
        records.append(wire.record(event, {**values, "sequence": numbers[at]}))
    return records


def values_of(events: list[HostEvent]) -> list[Any]:
    return [(type(event), {name: getattr(event, name) for name in wire.marks(type(event))}) for event in events]


def on_few_cpus(made: tuple[type[ProcessEvent], dict[str, Any]]) -> tuple[type[ProcessEvent], dict[str, Any]]:
    return made[0], {**made[1], "cpu": made[1]["cpu"] % 4}


MADE = st.lists(wire.any_record().map(on_few_cpus), max_size=6)


@given(MADE)
def test_a_span_gives_its_events(made: list[tuple[type[ProcessEvent], dict[str, Any]]]) -> None:
    """Records of all kinds come out as their events, in order, with nothing counted as bad."""
    stage = Stage()
    events = stage.decode(wire.span(records_of(made)))
    expected = [
        (event, {**values, "sequence": each.sequence}) for (event, values), each in zip(made, events, strict=True)
    ]
    assert values_of(events) == expected
    assert (stage.malformed(), stage.ledger.unknown_records) == (0, 0)


MANGLED = st.one_of(
    st.tuples(st.just("truncate"), st.integers(0, 400)),
    st.tuples(st.just("extend"), st.integers(1, 40)),
    st.tuples(st.just("length"), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("kind"), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("tail"), st.integers(0, 0xFFFF_FFFF)),
    st.tuples(st.just("noise"), st.integers(0, 300)),
)


def mangle(record: bytes, how: tuple[str, int]) -> bytes:
    what, number = how
    match what:
        case "truncate":
            return record[: min(number, len(record) - 1)]
        case "extend":
            return record + bytes(number)
        case "length":
            return struct.pack("<I", number) + record[4:]
        case "kind":
            return record[:4] + struct.pack("<I", number) + record[8:]
        case "tail":
            at = wire.member(Execve, "argv_length")[0]
            return record[:at] + struct.pack("<I", number) + record[at + 4 :]
    return bytes(at * 37 % 251 for at in range(number))


@given(MADE, st.lists(st.tuples(st.integers(0, 6), MANGLED), max_size=5))
def test_a_bad_record_shifts_no_other(
    made: list[tuple[type[ProcessEvent], dict[str, Any]]], bad: list[tuple[int, tuple[str, int]]]
) -> None:
    """A record that is cut, too long, of no kind or lies is counted; its neighbours come out whole."""
    records: list[tuple[bytes, bool]] = [(record, True) for record in records_of(made)]
    victim = wire.record(Execve, {"argv": b"a\0b\0", "filename": b"/bin/a", "sequence": 1})
    for place, how in bad:
        if (mangled := mangle(victim, how)) != victim:
            records.insert(place, (mangled, False))
    stage = Stage()
    events = stage.decode(wire.span(record for record, _good in records))
    assert [event for event, _ in values_of(events)] == [event for event, _ in made]
    assert [values for _, values in values_of(events)] == [
        {**values, "sequence": event.sequence} for (_, values), event in zip(made, events, strict=True)
    ]
    counted = stage.malformed() + stage.ledger.unknown_records
    assert counted == sum(not good for _, good in records)


@pytest.mark.parametrize("size", range(8))
@pytest.mark.parametrize("last", [True, False])
def test_a_record_without_a_kind_is_unknown(size: int, last: bool) -> None:
    """A record too short to say its kind is counted as unknown, wherever it lies."""
    stage = Stage()
    good = wire.record(Exit, {"sequence": 1, "exit_code": 3})
    records = [good, bytes(size)] if last else [bytes(size), good]
    (event,) = stage.decode(wire.span(records))
    assert isinstance(event, Exit)
    assert event.exit_code == 3
    assert stage.ledger.unknown_records == 1


@pytest.mark.parametrize("kind", [0, 1, 900, 0xFFFF_FFFF])
def test_a_kind_that_no_probe_has_is_unknown(kind: int) -> None:
    """A record of a number that no probe declares, Hookline's own among them, is counted as unknown."""
    stage = Stage()
    assert stage.decode(wire.span([struct.pack("<II", 64, kind) + bytes(56)])) == []
    assert (stage.malformed(), stage.ledger.unknown_records) == (0, 1)


def test_another_length_than_the_rings_is_malformed() -> None:
    """A record that says another length than the ring is counted under its kind."""
    stage = Stage()
    record = wire.record(Exit, {"sequence": 1})
    assert stage.decode(wire.span([struct.pack("<I", len(record) + 8) + record[4:]])) == []
    assert stage.ledger.kinds[Exit.data_type].malformed == 1


@given(st.lists(st.binary(max_size=400), max_size=5))
def test_noise_is_counted(records: list[bytes]) -> None:
    """Of records that are only noise, each is counted once, and nothing fails."""
    stage = Stage()
    events = [event for event in stage.decode(wire.span(records)) if not isinstance(event, Gap)]
    assert len(events) + stage.malformed() + stage.ledger.unknown_records == len(records)


async def test_the_stage_closes_the_account() -> None:
    """The stage counts what it decodes, tells the last gaps when the source ends, and closes its channels."""
    ledger = new_ledger()
    spans_in, spans_out = trio.open_memory_channel[Span](2)
    events_in, events_out = trio.open_memory_channel[list[HostEvent]](9)
    async with spans_in:
        for number in (1, 2):
            await spans_in.send(wire.span([wire.record(Exit, {"cpu": 1, "sequence": number})]))
    ledger.source(60, emitted=5, dropped=3, filtered=0)

    def final() -> list[tuple[int, int, int]]:
        return [(60, 0, 1), (60, 1, 4)]

    await decode(spans_out, events_in, decoder=DECODER, ledger=ledger, final_counters=final, latency=Latency())
    events = [event async for some in events_out for event in some]
    assert [type(event) for event in events] == [Exit, Exit, Gap, Gap]
    assert [(each.lost_cpu, each.first, each.last) for each in events if isinstance(each, Gap)] == [
        (0, 1, 1),
        (1, 3, 4),
    ]
    assert (ledger.kinds[60].decoded, ledger.kinds[60].missing, ledger.kinds[900].decoded) == (2, 3, 2)
    assert ledger.is_closed()
    with pytest.raises(trio.ClosedResourceError):
        spans_out.receive_nowait()
