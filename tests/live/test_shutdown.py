# SPDX-License-Identifier: GPL-2.0-or-later
"""How a collector ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.live.accounts import Outcome
from tests.live.collector import HOOKLINE, ROOT, Collector
from tests.live.conftest import Programs
from tests.live.loads import flood, load
from tests.live.tools import LIMIT_S, until

AT_MOST_S = 5.0


def nothing_dropped(outcome: Outcome) -> None:
    for name, kind in outcome.ledger["kinds"].items():
        for account in kind["sinks"].values():
            assert account["dropped_shutdown"] == account["dropped_queue"] == 0, (name, kind)
    outcome.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load(number: signal.Signals, programs: Programs, tmp_path: Path) -> None:
    """A signal under load: what was before it is delivered, the ledger closes, exit code 0, all within 5 s."""
    with Collector(tmp_path) as collector:
        before = len(collector.sync())
        with load(programs, tmp_path, pause_us=0):
            until(lambda: collector.output.stat().st_size > 5_000_000, "many events")
            outcome = collector.stop(number)
    assert outcome.seconds <= AT_MOST_S, f"took {outcome.seconds:.2f} s"
    assert len(outcome.events) >= before > 0
    nothing_dropped(outcome)


def test_a_full_ring_is_drained(programs: Programs, tmp_path: Path) -> None:
    """What waits in the ring when SIGTERM comes, 40,000 events, is delivered."""
    with Collector(tmp_path, {"collector": {"ring_bytes": 1 << 26}}) as collector:
        collector.send(signal.SIGSTOP)
        flood(programs, tmp_path, executions=1_000, files=2_000, connections=35_000)
        collector.send(signal.SIGTERM)
        collector.send(signal.SIGCONT)
        outcome = collector.stop()
    assert outcome.seconds <= AT_MOST_S, f"took {outcome.seconds:.2f} s"
    assert outcome.sink("connect")["delivered"] >= 35_000
    nothing_dropped(outcome)


def test_the_duration_ends_under_load(programs: Programs, tmp_path: Path) -> None:
    """The end of --duration under load is an end as good as SIGTERM."""
    with Collector(tmp_path, None, "--duration", "0.5") as collector, load(programs, tmp_path, pause_us=0):
        assert collector.process.wait(LIMIT_S) == 0
        outcome = collector.outcome()
    assert outcome.kind("execve")["emitted"] > 0
    nothing_dropped(outcome)


def test_an_impatient_administrator(programs: Programs, tmp_path: Path) -> None:
    """However often SIGTERM and SIGINT come until it has ended, it ends as after the first: exit code 0, ledger."""
    with Collector(tmp_path) as collector, load(programs, tmp_path):
        collector.sync()

        def ended() -> bool:
            collector.send(signal.SIGTERM)
            collector.send(signal.SIGINT)
            return collector.process.poll() is not None

        until(ended, "the end")
        assert collector.process.returncode == 0
        nothing_dropped(collector.outcome())


def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    """SIGTERM before anything is collected is an end too: no traceback, and nothing stays attached or running."""
    left = tmp_path / "left"
    left.mkdir()
    environment = {**os.environ, "TMPDIR": str(left)}
    for wait_s in (0.1, 0.5, 0.9):
        with subprocess.Popen(
            [*HOOKLINE, "run", "--output", tmp_path / "events"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
        ) as process:
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                process.terminate()
            _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode in {0, -signal.SIGTERM}, said
        assert b"Traceback" not in said
    until(lambda: not orphans(), "the end of the loaders")
    assert not list(left.iterdir())


def orphans() -> list[str]:
    """Loader children that outlived their collector."""
    left = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            command = Path("/proc", pid, "cmdline").read_text()
            parent = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1]
            if "probes.kernel.child" in command and parent == "1":
                left.append(pid)
    return left
