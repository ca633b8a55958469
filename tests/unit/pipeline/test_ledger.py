# SPDX-License-Identifier: GPL-2.0-or-later
"""The account: its equations, when it closes, how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import KindAccount, Ledger

COUNTS = st.dictionaries(st.sampled_from([59, 60]), st.integers(0, 1000))


def new() -> Ledger:
    return Ledger([(59, "execve"), (60, "exit")])


def closed() -> Ledger:
    """10 emitted: 7 decoded, 2 refused by the ring, 1 malformed; every sink has its 7."""
    ledger = new()
    ledger.source(59, emitted=10, dropped=2, filtered=4)
    ledger.decoded({59: 7})
    ledger.kinds[59].malformed = 1
    ledger.kinds[59].missing = 3
    for sink in ("file", "console"):
        ledger.offered(sink, {59: 7})
    ledger.delivered("file", {59: 7})
    ledger.delivered("console", {59: 4})
    ledger.dropped_queue("console", {59: 2})
    ledger.dropped_shutdown("console", {59: 1})
    return ledger


def test_an_empty_ledger_is_closed() -> None:
    """Where nothing happened nothing is missing."""
    assert new().is_closed()
    assert list(new().lines()) == ["ledger closed"]


def test_it_closes_when_all_is_counted() -> None:
    """Delivered, dropped by a queue, at the end or by the ring, malformed: each accounts for an event."""
    ledger = closed()
    assert ledger.is_closed()
    assert ledger.kinds[59].unaccounted() == 0
    assert ledger.kinds[59].sink("console").in_flight() == 0


def emit(account: KindAccount) -> None:
    account.emitted += 1


def drop_in_ring(account: KindAccount) -> None:
    account.dropped_ring += 1


def decode_twice(account: KindAccount) -> None:
    account.decoded += 1


def lose_in_sink(account: KindAccount) -> None:
    account.sink("file").delivered -= 1


def deliver_twice(account: KindAccount) -> None:
    account.sink("file").delivered += 1


def offer_twice(account: KindAccount) -> None:
    account.sink("file").offered += 1
    account.sink("file").delivered += 1


def miss_less(account: KindAccount) -> None:
    account.missing -= 1


def miss_more(account: KindAccount) -> None:
    account.missing += 1


def be_malformed(account: KindAccount) -> None:
    account.malformed += 1


@pytest.mark.parametrize(
    "change",
    [
        emit,
        drop_in_ring,
        decode_twice,
        lose_in_sink,
        deliver_twice,
        offer_twice,
        miss_less,
        miss_more,
        be_malformed,
    ],
    ids=lambda change: change.__name__,
)
def test_it_does_not_close_over_one_event(change: Callable[[KindAccount], None]) -> None:
    """One event too few or too many anywhere keeps the ledger open, and it says so."""
    ledger = closed()
    change(ledger.kinds[59])
    assert not ledger.is_closed()
    assert list(ledger.lines())[-1] == "LEDGER NOT CLOSED"
    assert ledger.report()["closed"] is False


def test_kinds_do_not_make_up_for_each_other() -> None:
    """One kind's surplus does not hide another's loss."""
    ledger = new()
    ledger.source(59, emitted=1, dropped=0, filtered=0)
    ledger.decoded({60: 1})
    assert not ledger.is_closed()


def test_the_source_is_taken_over_not_added() -> None:
    """The kernel's counters are totals: looking twice counts once."""
    ledger = new()
    for emitted in (3, 5):
        ledger.source(59, emitted=emitted, dropped=1, filtered=2)
    account = ledger.kinds[59]
    assert (account.emitted, account.dropped_ring, account.filtered) == (5, 1, 2)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_in_flight(
    offered: dict[int, int], delivered: dict[int, int], dropped: dict[int, int], late: dict[int, int]
) -> None:
    """In flight is what was offered and has no fate yet, of each kind."""
    ledger = new()
    ledger.offered("s", offered)
    ledger.delivered("s", delivered)
    ledger.dropped_queue("s", dropped)
    ledger.dropped_shutdown("s", late)
    for kind, account in ledger.kinds.items():
        fates = sum(each.get(kind, 0) for each in (delivered, dropped, late))
        assert account.sink("s").in_flight() == offered.get(kind, 0) - fates


def test_the_report_is_json() -> None:
    """The report has every figure, as JSON that any parser reads."""
    report = closed().report()
    assert json.loads(msgspec.json.encode(report)) == json.loads(json.dumps(report)) == report
    assert report["closed"] is True
    assert report["unknown_records"] == 0
    kinds = report["kinds"]
    assert isinstance(kinds, dict)
    assert kinds["execve"] == {
        "data_type": 59,
        "emitted": 10,
        "dropped_ring": 2,
        "filtered": 4,
        "skipped_by_kernel": 0,
        "decoded": 7,
        "malformed": 1,
        "missing": 3,
        "unaccounted": 0,
        "sinks": {
            "file": {
                "offered": 7,
                "delivered": 7,
                "dropped_queue": 0,
                "dropped_shutdown": 0,
                "resumed": 0,
                "dropped_spool": 0,
                "dead_letter": 0,
                "spooled": 0,
                "in_flight": 0,
            },
            "console": {
                "offered": 7,
                "delivered": 4,
                "dropped_queue": 2,
                "dropped_shutdown": 1,
                "resumed": 0,
                "dropped_spool": 0,
                "dead_letter": 0,
                "spooled": 0,
                "in_flight": 0,
            },
        },
    }


def test_lines_for_people() -> None:
    """A kind that occurred has a line with its figures, one that did not has none; the verdict comes last."""
    first, last = closed().lines()
    for part in (
        "execve: emitted 10",
        "file 7",
        "console 4 (dropped 3)",
        "ring 2",
        "malformed 1",
        "filtered 4",
    ):
        assert part in first
    assert last == "ledger closed"


def test_each_end_of_an_event_has_its_name_in_the_lines() -> None:
    """What waits in the spool, what came out of it, dead letters and what is under way are not called dropped."""
    ledger = new()
    ledger.source(59, emitted=1_000, dropped=0, filtered=0)
    ledger.decoded({59: 1_000})
    ledger.offered("kafka", {59: 1_000})
    ledger.resumed("kafka", {59: 70, 60: 5})
    ledger.delivered("kafka", {59: 160, 60: 5})
    ledger.spooled("kafka", {59: 880})
    ledger.dead_letter("kafka", {59: 20})
    ledger.dropped_spool("kafka", {59: 3})
    execve, only_resumed, verdict = ledger.lines()
    assert (
        "to kafka 160 (from the spool of an earlier run 70, left in the spool 880, dead letters 20, dropped 3, "
        "under way 7) +" in execve
    )
    assert "to kafka 5 (from the spool of an earlier run 5) +" in only_resumed
    assert verdict == "LEDGER NOT CLOSED"


def test_a_kind_that_was_only_filtered_is_told() -> None:
    """Filtered events are counted, and no loss."""
    ledger = new()
    ledger.source(60, emitted=0, dropped=0, filtered=1_234)
    first, last = ledger.lines()
    assert first.startswith("exit: emitted 0")
    assert "filtered 1,234" in first
    assert last == "ledger closed"


def test_what_the_kernel_skipped_is_told() -> None:
    """What the kernel's recursion guard kept from a probe is told, even where nothing else is, and breaks no ledger."""
    ledger = closed()
    ledger.skipped("exit", 1234)
    assert any(line.startswith("exit: emitted 0 ") and "skipped by the kernel 1,234" in line for line in ledger.lines())
    assert ledger.is_closed()
