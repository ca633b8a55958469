# SPDX-License-Identifier: GPL-2.0-or-later
"""Missing sequence numbers: each loss is named, by kind and CPU, and adds up."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode import Sequences, decode_span
from pipeline.gap import Gap
from pipeline.ledger import Ledger
from pipeline.stages import new_ledger
from probes.decoder import Decoder
from probes.event import HostEvent, ProcessEvent
from probes.process.execve import Execve
from probes.process.exit import Exit
from tests.unit.probes import wire

DECODER = Decoder(wire.EVENTS)
KINDS: dict[int, type[ProcessEvent]] = {59: Execve, 60: Exit}

Number = tuple[int, int, int]
"""kind, cpu, sequence"""


def run(numbers: Iterable[Number], emitted: Iterable[Number] = ()) -> tuple[Ledger, list[HostEvent]]:
    """Events with these numbers, then the end of the source, which counted `emitted`."""
    ledger = new_ledger()
    sequences = Sequences(ledger)
    records = [wire.record(KINDS[kind], {"cpu": cpu, "sequence": number}) for kind, cpu, number in numbers]
    events = decode_span(wire.span(records), DECODER, sequences, ledger)
    return ledger, [*events, *sequences.final(emitted, 0)]


def gaps(events: Iterable[HostEvent]) -> list[tuple[int, int, int, int]]:
    """(kind, cpu, first, last) of every gap."""
    return [(event.lost_kind, event.lost_cpu, event.first, event.last) for event in events if isinstance(event, Gap)]


@pytest.mark.parametrize(
    ("numbers", "emitted", "missing"),
    [
        ([1, 2, 3], 3, []),
        ([3, 4], 4, [(59, 7, 1, 2)]),
        ([1, 5], 5, [(59, 7, 2, 4)]),
        ([1, 2], 6, [(59, 7, 3, 6)]),
        ([], 2, [(59, 7, 1, 2)]),
        ([], 0, []),
        ([2, 4, 6], 7, [(59, 7, 1, 1), (59, 7, 3, 3), (59, 7, 5, 5), (59, 7, 7, 7)]),
    ],
    ids=["none", "start", "middle", "end", "all", "nothing", "everywhere"],
)
def test_where_numbers_are_missing(numbers: list[int], emitted: int, missing: list[tuple[int, ...]]) -> None:
    """A loss at the start, in the middle, at the end, or of everything is named to the number."""
    ledger, events = run([(59, 7, number) for number in numbers], [(59, 7, emitted)])
    assert gaps(events) == missing
    assert ledger.kinds[59].missing == emitted - len(numbers)


def test_kinds_and_cpus_count_apart() -> None:
    """Each kind on each CPU has numbers of its own: one's loss is not another's."""
    numbers = [(59, 0, 1), (60, 0, 1), (59, 1, 3), (60, 1, 1), (59, 0, 2)]
    ledger, events = run(numbers, [(59, 0, 2), (59, 1, 3), (60, 0, 1), (60, 1, 4)])
    assert gaps(events) == [(59, 1, 1, 2), (60, 1, 2, 4)]
    assert (ledger.kinds[59].missing, ledger.kinds[60].missing) == (2, 3)


def test_a_gap_stands_before_the_event_that_shows_it() -> None:
    """The gap comes first and has the time of the event behind it; gaps are numbered."""
    ledger = new_ledger()
    records = [wire.record(Exit, {"sequence": number, "time_ns": number * 10}) for number in (1, 3, 5)]
    events = decode_span(wire.span(records), DECODER, Sequences(ledger), ledger)
    assert [type(event) for event in events] == [Exit, Gap, Exit, Gap, Exit]
    assert [event.time_ns for event in events] == [10, 30, 30, 50, 50]
    assert [event.sequence for event in events if isinstance(event, Gap)] == [1, 2]
    assert ledger.kinds[Gap.data_type].emitted == 2


@given(st.lists(st.tuples(st.sampled_from([59, 60]), st.integers(0, 3), st.booleans()), max_size=60))
def test_what_is_missing_adds_up(sent: list[tuple[int, int, bool]]) -> None:
    """Whatever is lost, the gaps name exactly it, and the ledger's sum is theirs."""
    last: dict[tuple[int, int], int] = {}
    kept: list[Number] = []
    lost: set[Number] = set()
    for kind, cpu, is_lost in sent:
        number = last[kind, cpu] = last.get((kind, cpu), 0) + 1
        if is_lost:
            lost.add((kind, cpu, number))
        else:
            kept.append((kind, cpu, number))
    ledger, events = run(kept, [(kind, cpu, number) for (kind, cpu), number in last.items()])
    named = [(kind, cpu, number) for kind, cpu, first, end in gaps(events) for number in range(first, end + 1)]
    assert len(named) == len(set(named))
    assert set(named) == lost
    for kind in KINDS:
        assert ledger.kinds[kind].missing == sum(each[0] == kind for each in lost)


NUMBERS = st.one_of(st.integers(0, 5), st.sampled_from([1 << 32, (1 << 64) - 1]))


@given(st.lists(NUMBERS, max_size=12), NUMBERS)
def test_numbers_that_repeat_or_come_late(numbers: list[int], emitted: int) -> None:
    """A number that comes twice or late, or is 0, is an event like any other; no gap runs backwards."""
    ledger, events = run([(60, 0, number) for number in numbers], [(60, 0, emitted)])
    assert sum(isinstance(event, Exit) for event in events) == len(numbers)
    assert all(first <= last for _, _, first, last in gaps(events))
    assert ledger.kinds[60].missing == sum(last - first + 1 for _, _, first, last in gaps(events))


def test_a_repeated_number_leaves_the_ledger_open() -> None:
    """An event that came twice cannot be accounted for: the ledger does not close over it."""
    ledger, events = run([(60, 0, 1), (60, 0, 1)], [(60, 0, 1)])
    ledger.source(60, emitted=1, dropped=0, filtered=0)
    ledger.decoded({60: len(events)})
    assert not ledger.is_closed()


def test_a_malformed_record_is_a_gap_of_unknown_cause() -> None:
    """The number of a record that could not be read is missing too, and the gap does not blame the ring."""
    ledger = new_ledger()
    sequences = Sequences(ledger)
    records = [wire.record(Exit, {"sequence": number}) for number in (1, 2, 3)]
    records[1] += b"surplus"
    events = decode_span(wire.span(records), DECODER, sequences, ledger)
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert (gap.first, gap.last, gap.cause) == (2, 2, "unknown")
    ledger.source(60, emitted=3, dropped=0, filtered=0)
    ledger.decoded({60: 2, Gap.data_type: 1})
    assert ledger.is_closed()


def test_a_rings_loss_is_blamed_on_the_ring() -> None:
    """Where every record could be read, what is missing was refused by the ring."""
    _, events = run([(60, 0, 2)])
    assert [event.cause for event in events if isinstance(event, Gap)] == ["kernel_ring"]
