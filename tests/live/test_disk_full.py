# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that is full, and one that has room again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.disks import Disk, small_disk
from tests.live.loads import flood, load
from tests.live.tools import Tables, until


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path / "disk", ballast_kib=600) as disk:
        yield disk


def sink_on(disk: Disk, name: str = "trouble") -> Tables:
    """A sink whose queue is small enough for the disk that has room again."""
    return {
        f"sinks.{name}": {"type": "file", "path": str(disk.output), "when_full": "drop", "queue_batches": 2},
        "pipeline": {"batch_events": 50},
        "collector": {"span_bytes": 16 << 10},
    }


def log_of_trouble(collector: Collector) -> list[dict[str, Any]]:
    return collector.wait_for_log("a sink takes nothing")


def test_a_full_disk_that_is_relieved(disk: Disk, programs: Programs, tmp_path: Path) -> None:
    """On a full disk the collector lives, drops and counts; with room again it goes on; every line is whole."""
    with Collector(tmp_path, sink_on(disk)) as collector:
        with load(programs, tmp_path):
            assert "No space left" in log_of_trouble(collector)[0]["reason"]
            full = disk.output.stat().st_size
        flood(programs, tmp_path, executions=500, files=1_000, connections=1_000)
        collector.sync()  # the flood, which the disk has no room for, has gone by
        disk.relieve()
        until(lambda: disk.output.stat().st_size > full, "lines on the disk that has room again")
        collector.output = disk.output
        collector.forget()
        collector.sync()
        outcome = collector.stop()
    assert sum(outcome.sink(name, "trouble")["dropped_queue"] for name in ("execve", "connect", "fork")) > 0
    assert disk.output.read_bytes().endswith(b"}\n")
    outcome.check("trouble")


def test_an_end_on_a_full_disk(disk: Disk, programs: Programs, tmp_path: Path) -> None:
    """SIGTERM while the disk is full: what cannot be written is counted, exit code 0 within 5 s, no half line."""
    with Collector(tmp_path, sink_on(disk, "file")) as collector:
        collector.output = disk.output
        collector.forget()
        with load(programs, tmp_path):
            log_of_trouble(collector)
            outcome = collector.stop()
    print("END", outcome.seconds)
    assert outcome.seconds <= 5, f"took {outcome.seconds:.2f} s"
    sinks = [sink for kind in outcome.ledger["kinds"].values() for sink in kind["sinks"].values()]
    assert sum(sink["dropped_shutdown"] for sink in sinks) > 0
    assert disk.output.read_bytes().endswith(b"}\n")
    outcome.check()


def test_one_sink_in_trouble(disk: Disk, programs: Programs, tmp_path: Path) -> None:
    """A sink on a full disk takes nothing from another: that one has every event."""
    with Collector(tmp_path, sink_on(disk)) as collector:
        with load(programs, tmp_path):
            log_of_trouble(collector)
        flood(programs, tmp_path, executions=500, files=1_000, connections=1_000)
        outcome = collector.stop()
    for name, kind in outcome.ledger["kinds"].items():
        if kind["decoded"]:
            assert outcome.sink(name)["delivered"] == kind["emitted"], name
    assert sum(outcome.sink(name, "trouble")["dropped_queue"] for name in ("execve", "connect", "fork")) > 0
    outcome.check()
