# SPDX-License-Identifier: GPL-2.0-or-later
"""The bench is honest: it catches a slow handler, and what did not run has no figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.actions import ACTIONS, actions
from bench.report import Report, Row, read, read_as
from bench.rounds import loaded
from bench.stages import SCHEMA as STAGES
from bench.stages import Report as Stages
from pipeline.config import Config
from probes.registry import all_probes
from tests.live.collector import HOOKLINE
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, until_collecting
from tests.live.unprivileged import anybodys_folder, unprivileged

ROOT = Path(__file__).parents[2]

DELAY = """
	u64 slow_since = bpf_ktime_get_ns();

#pragma clang loop unroll(disable)
	for (int turn = 0; turn < 2000 && bpf_ktime_get_ns() - slow_since < 20000; turn++)
		;
"""


def test_actions_are_seen(tracefs: Path) -> None:
    """What drives the hooks is told as anybody's calls are, and not left out as the collector's own."""
    action = next(action for action in ACTIONS if action.name == "connect_udp")
    with loaded(Config(), ("connect",)) as (probes, _ring), actions() as driver:
        driver.run(action, 0.1)
        slot = list(all_probes()).index("connect")
        counters = [counts for its_slot, _stream, counts in probes.counters() if its_slot == slot]
    assert sum(each.emitted for each in counters) >= action.count // 10
    assert sum(each.filtered for each in counters) == 0


def run(packages: Path, folder: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], Report]:
    """`bench run` of those packages, with a cache of its own."""
    (folder / "config.toml").write_text(f'[collector]\ncache = "{folder}/cache"\n', encoding="utf-8")
    command = [
        sys.executable, "-P", "-m", "bench", "run", "--quick", "--check", "--json", str(folder / "report.json"),
        "--config", str(folder / "config.toml"), *options,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    return done, read(folder / "report.json")


def packages_with(folder: Path, file: str, change: Callable[[str], str]) -> Path:
    """All packages, with one file of them changed."""
    packages = folder / "packages"
    for package in ("bench", "pipeline", "probes", "sinks"):
        shutil.copytree(ROOT / package, packages / package, ignore=shutil.ignore_patterns("__pycache__"))
    source = packages / file
    source.write_text(change(source.read_text(encoding="ascii")), encoding="ascii")
    return packages


def slowed(text: str) -> str:
    start = text.index("{\n", text.index("int connect_returned(")) + 2
    return text[:start] + DELAY + text[start:]


def test_a_slow_handler_is_caught(tracefs: Path, tmp_path: Path) -> None:
    """A connect handler that does nothing for 20 µs fails the check by name; the histogram and bpf_stats agree."""
    packages = packages_with(tmp_path, "probes/network/connect.c", slowed)
    done, report = run(packages, tmp_path, "--probe", "connect", "--action", "connect")
    assert done.returncode == 1, done.stderr
    assert "over budget: connect_handler" in done.stdout
    row = connect_row(report)
    assert row.verdict == "over"
    assert row.mean is not None
    assert row.kernel_mean is not None
    assert min(row.mean, row.kernel_mean) > 20_000
    assert report.nothing is not None
    assert 0 < report.nothing.low <= report.nothing.high < 20_000


def connect_row(report: Report) -> Row:
    (row,) = [row for row in report.rows if row.documented.handler == "connect_handler"]
    return row


def test_no_samples(tracefs: Path, tmp_path: Path) -> None:
    """A probe that was asked for and cannot be loaded has no samples rather than no cost, and fails the check."""
    packages = packages_with(tmp_path, "probes/network/connect.c", lambda text: f"#error broken\n{text}")
    done, report = run(packages, tmp_path, "--probe", "connect", "--probe", "fork", "--action", "connect")
    row = connect_row(report)
    assert (row.verdict, row.n, row.mean, row.ratio) == ("no samples", 0, None, None)
    assert done.returncode == 1
    assert "connect_handler (AgentSmith-HIDS, January 2020): no samples" in done.stdout


@pytest.mark.parametrize(("probe", "action"), [("fork", "connect"), ("connect", "bind")], ids=["probe", "action"])
def test_not_measured(tracefs: Path, tmp_path: Path, probe: str, action: str) -> None:
    """A handler whose probe or action was not asked for is not measured, which is no failure and no cost either."""
    done, report = run(ROOT, tmp_path, "--probe", probe, "--action", action)
    row = connect_row(report)
    assert (row.verdict, row.n, row.mean, row.ratio) == ("not measured", 0, None, None)
    assert done.returncode == 0
    assert "no documented budget was asked for" in done.stdout


def test_without_root(programs: Programs) -> None:
    """Without privileges `bench stages` measures each stage of a recording but the kernel's, which it says.

    `bench run` does nothing, and says what there is instead.
    """
    with anybodys_folder() as folder:
        recording, report = folder / "recording", folder / "report.json"
        command = [*HOOKLINE, "record", str(recording), "--probe", "execve"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as recorder:
            assert recorder.stderr is not None
            until_collecting(recorder.stderr)
            for _number in range(200):
                subprocess.run([programs("nop")], check=True)
            recorder.terminate()
        assert recorder.returncode == 0
        recording.chmod(0o644)
        command = [*unprivileged(), *HOOKLINE, "bench", "stages", "--recording", str(recording), "--json", str(report)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S * 4)
        assert done.returncode == 0, done.stderr
        assert "left out: read" in done.stdout
        found = read_as(report, Stages, STAGES)
        assert found.events >= 200
        assert {"decode", "encode smith", "spool: put"} <= {stage.name for stage in found.stages}
        assert "read" not in {stage.name for stage in found.stages}
        refused = subprocess.run(
            [*unprivileged(), *HOOKLINE, "bench", "run"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
