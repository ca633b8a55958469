# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm of processes that end at once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.test_ancestors import SPINE
from tests.live.test_metrics import scrape
from tests.live.tools import LIMIT_S, until
from tests.ports import free_port

STORM = 200_000
MIB = 1 << 20

MOST_GROWTH = 16 * MIB
"""Above what it is once the table of ended processes is full: the allocator's own rest, and a full ring's worth."""


def resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_storm_of_processes(programs: Programs, tmp_path: Path) -> None:
    """200,000 short-lived processes, some pids of which come six times, leave no more memory behind than documented."""
    port = free_port()
    tables = {**SPINE, "metrics": {"listen": f"127.0.0.1:{port}"}, "sinks.file": {"rotate_bytes": 8 * MIB, "keep": 1}}
    with Collector(tmp_path, tables) as running:
        with subprocess.Popen([programs("storm"), "40000"]) as first:
            assert first.wait(LIMIT_S * 4) == 0
        before = most = resident(running.pid)
        with subprocess.Popen([programs("storm"), str(STORM)]) as storm:
            while storm.poll() is None:
                most = max(most, resident(running.pid))
                try:
                    storm.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            assert storm.returncode == 0

        def settled() -> bool:
            figures = scrape(port)
            told = ("hookline_events_total", "fork")
            return figures[*told, "emitted"] == figures[*told, "decoded"] + figures[*told, "dropped_ring"] >= STORM

        until(settled, "all is decoded", LIMIT_S * 4)
        figures = scrape(port)
        assert figures["hookline_part", "ended", "process_tree"] <= 65_536 // 32
        assert figures["hookline_part", "size", "process_tree"] <= 65_536
        most = max(most, resident(running.pid))
        outcome = running.stop()
    outcome.check_equation()
    print(f"resident before {before >> 10} KiB, most {most >> 10} KiB")
    assert most - before < MOST_GROWTH
