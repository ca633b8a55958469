# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger's equation, and the proof of it that anyone can make from the delivered lines alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

GAP = 900


class Number(NamedTuple):
    """What an event id says."""

    run: str
    kind: int
    cpu: int
    sequence: int


def number_of(event: Mapping[str, Any]) -> Number:
    """The number of an event of either schema."""
    run, kind, cpu, sequence = (event.get("event_id") or event["event"]["id"]).rsplit("-", 3)
    return Number(run, int(kind), int(cpu), int(sequence))


def gap_of(event: Mapping[str, Any]) -> tuple[int, int, int, int, str]:
    """Kind, CPU, first and last missing number, and cause."""
    gap = event if "event_id" in event else event["hookline"]["gap"]
    return int(gap["kind"]), int(gap["cpu"]), int(gap["first"]), int(gap["last"]), gap["cause"]


@dataclass(slots=True)
class Outcome:
    """What a collector leaves."""

    ledger: dict[str, Any]
    events: list[dict[str, Any]]
    """All that its file holds."""

    seconds: float
    """From the signal to the end of the process."""

    said: str
    """Its log."""

    def kind(self, name: str) -> dict[str, Any]:
        """The ledger of one kind."""
        account: dict[str, Any] = self.ledger["kinds"][name]
        return account

    def sink(self, kind: str, sink: str = "file") -> dict[str, int]:
        """The ledger of one kind at one sink."""
        account: dict[str, int] = self.kind(kind)["sinks"][sink]
        return account

    def check(self, sink: str = "file") -> None:
        """The ledger closes, and the lines of `sink`, which was there all the time, prove it."""
        self.check_equation()
        self.check_numbers(sink)

    def check_equation(self) -> None:
        """Emitted by the kernel = delivered + dropped, for every kind and at every sink; nothing unaccounted."""
        assert self.ledger["closed"] is True, self.ledger
        assert self.ledger["unknown_records"] == 0
        for name, kind in self.ledger["kinds"].items():
            assert kind["unaccounted"] == kind["malformed"] == 0, (name, kind)
            assert kind["emitted"] == kind["decoded"] + kind["dropped_ring"], (name, kind)
            assert kind["missing"] == kind["dropped_ring"], (name, kind)
            for account in kind["sinks"].values():
                dropped = account["dropped_queue"] + account["dropped_shutdown"]
                assert account["offered"] == account["delivered"] + dropped, (name, kind)
                assert account["in_flight"] == 0, (name, kind)

    def check_numbers(self, sink: str) -> None:
        """For every kind and CPU the numbers delivered and those that gaps name are 1, 2, 3, each once."""
        delivered, missing = covered(self.events)
        lines = Counter(number_of(event).kind for event in self.events)
        for name, kind in self.ledger["kinds"].items():
            account = kind["sinks"].get(sink, {"offered": 0, "delivered": 0})
            number = kind["data_type"]
            assert account["offered"] == kind["decoded"], (name, kind)
            assert account["delivered"] == lines[number], (name, kind, lines[number])
            if account["offered"] != account["delivered"]:
                continue  # the queue was full: these have a number, and no line
            emitted = 0
            for cpu in {cpu for each, cpu in (*delivered, *missing) if each == number}:
                numbers = sorted(delivered[number, cpu] + missing[number, cpu])
                assert numbers == list(range(1, len(numbers) + 1)), (name, cpu)
                emitted += len(numbers)
            # Gaps are counted over all CPUs.
            assert number == GAP or emitted == kind["emitted"], (name, kind, emitted)
            assert kind["missing"] == sum(len(lost) for (each, _), lost in missing.items() if each == number)


Numbers = defaultdict[tuple[int, int], list[int]]
"""Sequence numbers by kind and CPU."""


def covered(events: Iterable[Mapping[str, Any]]) -> tuple[Numbers, Numbers]:
    """The numbers of the events that are there, and those that gap events name."""
    delivered: Numbers = defaultdict(list)
    missing: Numbers = defaultdict(list)
    gaps: list[int] = []
    for event in events:
        _run, kind, cpu, sequence = number_of(event)
        if kind == GAP:
            gaps.append(sequence)
            lost, lost_cpu, first, last, cause = gap_of(event)
            assert (lost_cpu, cause) == (cpu, "kernel_ring")
            missing[lost, lost_cpu] += range(first, last + 1)
        else:
            delivered[kind, cpu].append(sequence)
    assert gaps == list(range(1, len(gaps) + 1))
    return delivered, missing
