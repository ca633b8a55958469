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
from probes.decoder import IS_BUILT, Decoder
from probes.event import HostEvent, ProcessEvent
from probes.kernel.ring import Span
from probes.process.execve import Execve
from probes.process.exit import Exit
from tests.unit.probes import wire

DECODERS = {in_c: Decoder(wire.EVENTS, in_c=in_c) for in_c in ({False, IS_BUILT})}
"""In Python and in C."""

codecs = pytest.mark.parametrize(
    "in_c", [False, pytest.param(True, marks=pytest.mark.skipif(not IS_BUILT, reason="no decoder in C was built"))]
)


@dataclass
class Stage:
    """What one run of the stage has beside its channels."""

    in_c: bool
    ledger: Ledger = field(default_factory=new_ledger)

    def __post_init__(self) -> None:
        self.sequences = Sequences(self.ledger)

    def decode(self, span: Span) -> list[HostEvent]:
        return decode_span(span, DECODERS[self.in_c], self.sequences, self.ledger)

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


@codecs
@given(MADE)
def test_a_span_gives_its_events(in_c: bool, made: list[tuple[type[ProcessEvent], dict[str, Any]]]) -> None:
    """Records of all kinds come out as their events, in order, with nothing counted as bad."""
    stage = Stage(in_c)
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


@codecs
@given(MADE, st.lists(st.tuples(st.integers(0, 6), MANGLED), max_size=5))
def test_a_bad_record_shifts_no_other(
    in_c: bool, made: list[tuple[type[ProcessEvent], dict[str, Any]]], bad: list[tuple[int, tuple[str, int]]]
) -> None:
    """A record that is cut, too long, of no kind or lies is counted; its neighbours come out whole."""
    records: list[tuple[bytes, bool]] = [(record, True) for record in records_of(made)]
    victim = wire.record(Execve, {"argv": b"a\0b\0", "filename": b"/bin/a", "sequence": 1})
    for place, how in bad:
        if (mangled := mangle(victim, how)) != victim:
            records.insert(place, (mangled, False))
    stage = Stage(in_c)
    events = stage.decode(wire.span(record for record, _good in records))
    assert [event for event, _ in values_of(events)] == [event for event, _ in made]
    assert [values for _, values in values_of(events)] == [
        {**values, "sequence": event.sequence} for (_, values), event in zip(made, events, strict=True)
    ]
    counted = stage.malformed() + stage.ledger.unknown_records
    assert counted == sum(not good for _, good in records)


@pytest.mark.skipif(not IS_BUILT, reason="no decoder in C was built")
@given(MADE, st.lists(st.tuples(st.integers(0, 6), MANGLED), max_size=5))
def test_both_decoders_tell_the_same(
    made: list[tuple[type[ProcessEvent], dict[str, Any]]], bad: list[tuple[int, tuple[str, int]]]
) -> None:
    """Of good and bad records, numbers that jump or come twice among them, C and Python make the same events."""
    records = [wire.record(event, values) for event, values in made] + records_of(made)
    for place, how in bad:
        records.insert(place, mangle(wire.record(Execve, {"argv": b"a\0b\0", "filename": b"/bin/a"}), how))
    stages = [Stage(False), Stage(True)]
    first, second = (stage.decode(wire.span(records)) for stage in stages)
    assert first == second
    assert stages[0].ledger.report() == stages[1].ledger.report()
    assert stages[0].sequences.last == stages[1].sequences.last


@codecs
@pytest.mark.parametrize("beyond", [1, 7, 1 << 31])
def test_a_record_beyond_its_span_is_malformed(in_c: bool, beyond: int) -> None:
    """Of a record that would end behind its span's last byte nothing is read."""
    stage = Stage(in_c)
    record = wire.record(Execve, {"sequence": 1, "argv": b"a\0"})
    size = len(record) + beyond
    record = struct.pack("<I", size) + record[4:]
    assert stage.decode(Span(record, [(0, size)])) == []
    assert stage.ledger.kinds[Execve.data_type].malformed == 1


@codecs
@pytest.mark.parametrize("size", range(8))
@pytest.mark.parametrize("last", [True, False])
def test_a_record_without_a_kind_is_unknown(in_c: bool, size: int, last: bool) -> None:
    """A record too short to say its kind is counted as unknown, wherever it lies."""
    stage = Stage(in_c)
    good = wire.record(Exit, {"sequence": 1, "exit_code": 3})
    records = [good, bytes(size)] if last else [bytes(size), good]
    (event,) = stage.decode(wire.span(records))
    assert isinstance(event, Exit)
    assert event.exit_code == 3
    assert stage.ledger.unknown_records == 1


@codecs
@pytest.mark.parametrize("kind", [0, 1, 900, 0xFFFF_FFFF])
def test_a_kind_that_no_probe_has_is_unknown(in_c: bool, kind: int) -> None:
    """A record of a number that no probe declares, Hookline's own among them, is counted as unknown."""
    stage = Stage(in_c)
    assert stage.decode(wire.span([struct.pack("<II", 64, kind) + bytes(56)])) == []
    assert (stage.malformed(), stage.ledger.unknown_records) == (0, 1)


@codecs
def test_another_length_than_the_rings_is_malformed(in_c: bool) -> None:
    """A record that says another length than the ring is counted under its kind."""
    stage = Stage(in_c)
    record = wire.record(Exit, {"sequence": 1})
    assert stage.decode(wire.span([struct.pack("<I", len(record) + 8) + record[4:]])) == []
    assert stage.ledger.kinds[Exit.data_type].malformed == 1


@codecs
@given(st.lists(st.binary(max_size=400), max_size=5))
def test_noise_is_counted(in_c: bool, records: list[bytes]) -> None:
    """Of records that are only noise, each is counted once, and nothing fails."""
    stage = Stage(in_c)
    events = [event for event in stage.decode(wire.span(records)) if not isinstance(event, Gap)]
    assert len(events) + stage.malformed() + stage.ledger.unknown_records == len(records)


@codecs
async def test_the_stage_closes_the_account(in_c: bool) -> None:
    """The stage counts what it decodes, tells the last gaps when the source ends, and closes its channel."""
    ledger = new_ledger()
    spans_in, spans_out = trio.open_memory_channel[Span](2)
    events_in, events_out = trio.open_memory_channel[list[HostEvent]](9)
    async with spans_in:
        for number in (1, 2):
            await spans_in.send(wire.span([wire.record(Exit, {"cpu": 1, "sequence": number})]))
    ledger.source(60, emitted=5, dropped=3, filtered=0)

    def final() -> list[tuple[int, int, int]]:
        return [(60, 0, 1), (60, 1, 4)]

    await decode(
        spans_out, events_in.send, decoder=DECODERS[in_c], ledger=ledger, final_counters=final, latency=Latency()
    )
    events_in.close()
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
