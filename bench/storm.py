# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench storm``: many programs a second that were never seen before; pytest-benchmark runs `test_storm.py`."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench.kept import require, run
from bench.machine import Machine, Watch, machine
from bench.table import new_table

SCHEMA = "hookline-bench-storm/1"

COLUMNS = ("pass", "who", "executions", "a second", "told", "verified", "its CPU s", "kauditd CPU s", "its MiB", "lost")

_TESTS = Path(__file__).with_name("test_storm.py")


class Pass(msgspec.Struct, frozen=True):
    """A storm under one of them, whose every figure counts until it had nothing to do any more."""

    who: str
    executions: int
    seconds: float
    """What the storm took."""

    told: int
    """Executions of it that were written down."""

    verified: int
    """Of those, with the MD5 of that very program."""

    cpu_s: float
    kauditd_cpu_s: float
    peak_mib: float
    lost: int
    """Events that it says it lost, all kinds together."""

    @property
    def rate(self) -> float:
        """Executions a second that there were."""
        return self.executions / self.seconds


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    passes: tuple[Pass, ...]
    warnings: tuple[str, ...]


RATE = 1_600
SECONDS = 30
PASSES = 2
"""Of the collector and of auditd, in turn."""


def measure(progress: Progress, *, command: str) -> Report:
    """Run the benchmark.

    Raises:
        ConfigError: pytest-benchmark is not installed, or the collector did not stand the storm.
    """
    require("bench storm")
    where, watch = machine(), Watch()
    task = progress.add_task("a storm of new programs", total=1 + PASSES * 2)
    (found,) = run(_TESTS, step=lambda: progress.advance(task))
    passes = msgspec.convert(found.extra_info["passes"], tuple[Pass, ...])
    return Report(SCHEMA, command, where, passes, tuple(watch.doubts()))


def rows(report: Report) -> list[tuple[str, ...]]:
    """The text of `COLUMNS` for each pass."""
    times: dict[str, int] = {}
    found: list[tuple[str, ...]] = []
    for each in report.passes:
        times[each.who] = times.get(each.who, 0) + 1
        is_collector = each.who == "hookline"
        found.append((
            str(times[each.who]), each.who, f"{each.executions:,}", f"{each.rate:,.0f}", f"{each.told:,}",
            f"{each.verified:,}" if is_collector else "–", f"{each.cpu_s:.1f}",
            "–" if is_collector else f"{each.kauditd_cpu_s:.1f}", f"{each.peak_mib:.0f}", f"{each.lost:,}",
        ))  # fmt: skip
    return found


def show(report: Report, out: Console) -> None:
    """Print it."""
    table = new_table("a storm of programs that were never seen before", COLUMNS)
    for row in rows(report):
        table.add_row(*row)
    out.print(table)
    for warning in report.warnings:
        out.print(f"[yellow]doubt:[/] {warning}")
