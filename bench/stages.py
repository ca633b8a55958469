# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench stages``: what each stage costs an event; pytest-benchmark runs `test_pipeline.py` for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench.figures import Spread
from bench.kept import require, run
from bench.machine import Machine, Watch, machine
from bench.table import new_table
from bench.workload import STEPS as RECORDED_STEPS

SCHEMA = "hookline-bench-stages/1"

_TESTS = Path(__file__).with_name("test_pipeline.py")


class Stage(msgspec.Struct, frozen=True):
    """One stage; ns an event, over passes through all of them."""

    name: str
    ns: Spread


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    events: int
    """Executions in a pass."""

    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]


PASSES = 9
"""Through all stages but reading, and of reading; before the former there is one that does not count."""


def measure(recording: Path | None, progress: Progress, *, command: str) -> Report:
    """Run the benchmarks, with these executions or with some that are recorded now.

    Raises:
        ConfigError: pytest-benchmark is not installed, or they failed.
    """
    require("bench stages")
    where, watch = machine(), Watch()
    more = [] if recording is None else [f"--recording={recording.resolve()}"]
    recorded = RECORDED_STEPS if recording is None else 0
    task = progress.add_task("stages", total=recorded + PASSES + 1 + PASSES)
    found = run(_TESTS, "-k", "stages or read", "--benchmark-disable-gc", *more, step=lambda: progress.advance(task))
    stages = msgspec.convert(
        [stage for each in found for stage in each.extra_info.get("stages", ())], tuple[Stage, ...]
    )
    ordered = tuple(sorted(stages, key=lambda stage: stage.name != "read"))
    left = () if any(stage.name == "read" for stage in stages) else ("read: filling a ring needs root",)
    events = max(each.extra_info.get("events", 0) for each in found)
    return Report(SCHEMA, command, where, events, ordered, tuple(watch.doubts()), left)


def show(report: Report, out: Console) -> None:
    """Print it."""
    table = new_table(f"ns an execution, {report.events:,} in a pass", ("stage", "ns", "from", "to"))
    table.columns[0].justify = "left"
    for stage in report.stages:
        table.add_row(stage.name, f"{stage.ns.median:,.0f}", f"{stage.ns.low:,.0f}", f"{stage.ns.high:,.0f}")
    out.print(table)
    for warning in report.warnings:
        out.print(f"[yellow]doubt:[/] {warning}")
    for left in report.left_out:
        out.print(f"[yellow]left out:[/] {left}")
