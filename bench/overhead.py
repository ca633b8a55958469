# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench overhead``: what a real workload pays for being watched, by Hookline and by others, in turn."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench.actions import SOURCE, compiled, compiler
from bench.figures import Interval, Spread, interval, spread
from bench.machine import Machine, Watch, machine
from bench.rivals import RIVALS, Rival
from bench.table import new_table
from pipeline.config import ConfigError

SCHEMA = "hookline-bench-overhead/1"

_SCATTERED = 0.15


@dataclass(frozen=True, slots=True)
class Workload:
    """A command that is run as a whole."""

    name: str
    command: tuple[str, ...]


class Watched(msgspec.Struct, frozen=True):
    """One workload under one collector; the rounds' medians and extremes."""

    collector: str
    workload: str
    wall_s: Spread
    system_s: Spread
    """Of the workload's processes, where what hooks cost in them is."""

    wall_paid: Interval
    """Share of the wall time without a collector, with the 95 % interval of the difference."""

    collector_cpu_s: Spread
    peak_mib: float
    lost: int
    """Events in all rounds that the collector says it lost, all workloads together."""


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    rounds: int
    watched: tuple[Watched, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]


def workloads(folder: Path, share: float) -> tuple[Workload, ...]:
    """The workloads, compiled into `folder`. Raises ConfigError: there is no C compiler."""
    program = compiled(folder)
    files = folder / "files"
    files.mkdir()

    def action(name: str, count: int) -> tuple[str, ...]:
        return (str(program), name, str(int(count * share)), str(files))

    # As a build system does: a shell, and for each file a compiler driver with its compiler and assembler.
    build = f'for i in $(seq {int(10 * share) or 1}); do {compiler()} -O1 -c -o "{files}/$i.o" "{SOURCE}"; done'
    return (
        Workload("exec storm", action("execve", 3000)),
        Workload("connect storm", action("connect", 6000)),
        Workload("small build", ("/bin/sh", "-c", build)),
    )


class Run:
    """Rounds of all workloads under all collectors."""

    def __init__(self) -> None:
        self.wall: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.system: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.cpu: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.peak: dict[str, int] = defaultdict(int)
        self.lost: dict[str, int] = defaultdict(int)
        self.left_out: dict[str, str] = {}
        self.troubles: list[str] = []

    def watched(self, name: str, wanted: Sequence[Workload]) -> None:
        """All workloads once under that collector; what cannot run here is left out from then on."""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            try:
                with RIVALS[name](Path(folder)) as rival:
                    for workload in wanted:
                        self._once(name, workload, rival)
                    self.peak[name] = max(self.peak[name], rival.peak_kib())
            except ConfigError as error:
                self.left_out[name] = str(error)
                return
            self.lost[name] += rival.lost
            if rival.trouble:
                self.troubles.append(f"{name} {rival.trouble}")

    def _once(self, name: str, workload: Workload, rival: Rival) -> None:
        before, began = rival.cpu_s(), time.monotonic()
        process = subprocess.Popen(workload.command, stdout=subprocess.DEVNULL)
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ConfigError(f"the workload {workload.name} failed with {process.returncode}")
        key = (name, workload.name)
        self.wall[key].append(time.monotonic() - began)
        rival.settle()
        self.system[key].append(usage.ru_stime)
        self.cpu[key].append(rival.cpu_s() - before)

    def result(self, name: str, workload: Workload) -> Watched:
        """What that collector cost that workload."""
        key = (name, workload.name)
        bare = self.wall["nobody", workload.name]
        paid = [(with_ - without) / without for with_, without in zip(self.wall[key], bare, strict=True)]
        return Watched(
            collector=name,
            workload=workload.name,
            wall_s=spread(self.wall[key]),
            system_s=spread(self.system[key]),
            wall_paid=interval(paid),
            collector_cpu_s=spread(self.cpu[key]),
            peak_mib=round(self.peak[name] / 1024, 1),
            lost=self.lost[name],
        )


def measure(rounds: int, share: float, progress: Progress, *, command: str) -> Report:
    """So many rounds with this share of each workload. Raises ConfigError: there is no C compiler."""
    where, watch, run = machine(), Watch(), Run()
    names = list(RIVALS)
    task = progress.add_task("overhead", total=rounds * len(names))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        wanted = workloads(Path(folder), share)
        for number in range(rounds):
            # Each collector has each place in a round: nobody is always measured on the warmest machine.
            for at in range(len(names)):
                name = names[(number + at) % len(names)]
                progress.update(task, description=f"round {number + 1} of {rounds}, {name}")
                if name not in run.left_out:
                    run.watched(name, wanted)
                progress.advance(task)
    watched = tuple(run.result(name, workload) for workload in wanted for name in names if name not in run.left_out)
    return Report(
        SCHEMA, command, where, rounds, watched, (*watch.doubts(), *_scattered(watched), *dict.fromkeys(run.troubles)),
        tuple(f"{name}: {reason}" for name, reason in run.left_out.items()),
    )  # fmt: skip


def _scattered(watched: Sequence[Watched]) -> list[str]:
    wide = [each for each in watched if each.collector == "nobody" and each.wall_s.scatter > _SCATTERED]
    return [
        f"the {each.workload} without a collector took {each.wall_s.low:.2f} to {each.wall_s.high:.2f} s: "
        "differences of that size are noise"
        for each in wide
    ]


def show(report: Report, out: Console) -> None:
    """Print it."""
    columns = ("collector", "wall s", "paid", "system s", "collector CPU s", "memory MiB", "lost")
    for workload in dict.fromkeys(each.workload for each in report.watched):
        under = [each for each in report.watched if each.workload == workload]
        title = f"{workload}, medians of {report.rounds} rounds; paid: with its {under[0].wall_paid.bracket}"
        table = new_table(title, columns)
        for each in under:
            low, high = each.wall_paid.low, each.wall_paid.high
            paid = (
                "–"
                if each.collector == "nobody"
                else f"{each.wall_paid.median:+.1%} [dim]({low:+.1%} to {high:+.1%})[/]"
            )
            table.add_row(
                each.collector, f"{each.wall_s.median:.2f}", paid, f"{each.system_s.median:.2f}",
                f"{each.collector_cpu_s.median:.2f}", f"{each.peak_mib:.0f}", f"{each.lost:,}",
            )  # fmt: skip
        out.print(table)
    out.print("[dim]lost: of all workloads and rounds, as the collector itself counts it[/]")
    for warning in report.warnings:
        out.print(f"[yellow]doubt:[/] {warning}")
    for left in report.left_out:
        out.print(f"[yellow]left out:[/] {left}")
