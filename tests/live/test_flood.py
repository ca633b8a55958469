# SPDX-License-Identifier: GPL-2.0-or-later
"""More events than the ring holds."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.live.accounts import GAP, covered, gap_of
from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.loads import flood

KINDS = ("execve", "exit", "fork", "connect", "create_file")
SMALL_RING = {"collector": {"ring_bytes": 65_536, "probes": list(KINDS)}}


def test_a_ring_that_is_too_small(programs: Programs, tmp_path: Path) -> None:
    """Of a flood over a ring of 64 KiB each event is delivered or named by a gap, and later ones come as before."""
    with Collector(tmp_path, SMALL_RING) as collector:
        flood(programs, tmp_path, executions=3_000, files=10_000, connections=10_000)
        collector.send(signal.SIGSTOP)  # however fast the collector, now the ring must fill
        flood(programs, tmp_path, executions=200, files=2_000, connections=2_000)
        collector.send(signal.SIGCONT)
        collector.sync()
        flooded = len(collector.events)
        flood(programs, tmp_path, executions=10, files=10, connections=10)
        after = collector.sync()[flooded:]
        outcome = collector.stop()
    outcome.check()
    for name in KINDS:
        account = outcome.kind(name)
        assert account["dropped_ring"] > 0, name
        assert account["emitted"] == account["dropped_ring"] + outcome.sink(name)["delivered"]
    assert outcome.kind("create_file")["emitted"] >= 12_010
    assert outcome.kind("gap")["emitted"] == outcome.sink("gap")["delivered"] > 0

    delivered, missing = covered(outcome.events)
    for each, lost in missing.items():
        assert not set(lost) & set(delivered[each])
        assert len(lost) == len(set(lost))
    lost_in_all = sum(map(len, missing.values()))
    assert lost_in_all == sum(outcome.kind(name)["dropped_ring"] for name in KINDS)

    calm = [event for event in after if event["comm" if "comm" in event else "kind"] in {"churn", "connect"}]
    told = [(event["data_type"], event["comm"]) for event in calm]
    assert told.count(("602", "churn")) == told.count(("42", "connect")) == 10


def test_gaps_stand_where_events_are_missing(programs: Programs, tmp_path: Path) -> None:
    """A gap is told before the first later event of its kind and CPU, so that a reader sees it in order."""
    with Collector(tmp_path, SMALL_RING) as collector:
        collector.send(signal.SIGSTOP)
        flood(programs, tmp_path, executions=1, files=1_000, connections=1_000)
        collector.send(signal.SIGCONT)
        outcome = collector.stop()
    next_number: dict[tuple[int, int], int] = {}
    gaps = 0
    for event in outcome.events:
        _run, kind, cpu, sequence = event["event_id"].rsplit("-", 3)
        if int(kind) == GAP:
            lost, lost_cpu, first, last, _cause = gap_of(event)
            place, sequence, following = (lost, lost_cpu), first, last + 1
            gaps += 1
        else:
            place, following = (int(kind), int(cpu)), int(sequence) + 1
        assert next_number.get(place, 1) == int(sequence)
        next_number[place] = following
    assert gaps > 0
    outcome.check()
