# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``bench run`` found. As JSON (`--json`) a `Report` is documented in docs/performance.md, by these classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from bench.budgets import Documented, Source
from bench.figures import Interval, Spread
from bench.machine import Machine
from pipeline.config import ConfigError

SCHEMA = "hookline-bench-run/2"

Read = TypeVar("Read", bound=msgspec.Struct)


class _Any(msgspec.Struct):
    schema: str = ""


Verdict = Literal["met", "over", "no samples", "no handler", "not measured"]
"""No samples: it was to be measured, and did not run. Not measured: other probes or actions were asked for."""


class Distribution(msgspec.Struct, frozen=True):
    """Durations of a program, ns, without `Report.clock_ns`; all rounds together. A quantile is at most 6.25 % too
    long."""

    n: int
    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    p999: int
    max: int
    by_round: Spread
    """The means of the rounds."""

    buckets: tuple[tuple[int, int], ...]
    """Lower bound, ns, and runs, of each bucket that is not empty."""


class Handler(msgspec.Struct, frozen=True):
    """One program under one action."""

    name: str
    """PROBE/PROGRAM"""

    action: str
    inside: Distribution
    """By the histogram inside it, which is compiled in for this."""

    kernel: Spread | None
    """Mean ns a run, by the kernel's bpf_stats, of the build that users run; None where it did not run then."""

    kernel_n: int


class Call(msgspec.Struct, frozen=True):
    """What an action takes, ns a time, and what of that it pays for the probes."""

    action: str
    title: str
    without: Spread
    beside: Spread
    paid: Interval


class Row(msgspec.Struct, frozen=True):
    """A documented handler and what answers it here; µs as documented, ns where measured."""

    documented: Documented
    source: Source
    verdict: Verdict
    n: int = 0
    mean: float | None = None
    kernel_mean: float | None = None
    p50: int | None = None
    p90: int | None = None
    p95: int | None = None
    p99: int | None = None
    max: int | None = None
    ratio: float | None = None
    """Our mean as a share of the documented one."""

    percentiles_over: tuple[str, ...] = ()
    """Those that are above the documented ones."""

    instead: Interval | None = None
    """Where there is no handler: what a call pays for the probes, ns."""


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    probes: tuple[str, ...]
    """Those of the histograms and of bpf_stats."""

    probes_of_calls: tuple[str, ...]
    """Those beside which the calls were timed: what runs where nothing is named."""

    rounds: int
    seconds: float
    clock_ns: int
    """What a reading of the clock took, which is in every duration that is counted, and is taken off."""

    rows: tuple[Row, ...]
    handlers: tuple[Handler, ...]
    calls: tuple[Call, ...]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]
    nothing: Spread | None = None
    """Mean ns a run of a program that does nothing, by the kernel's bpf_stats: so much of each `Handler.kernel` and
    `Row.kernel_mean` is their own. None: it could not be attached, or the file is older."""

    def main_handlers(self) -> list[Handler]:
        """Each program once: under the action of its name or its probe's, or the one that ran it most often."""

        def rank(each: Handler) -> tuple[bool, bool, int]:
            probe, _slash, program = each.name.partition("/")
            return program == each.action, probe == each.action, each.inside.n

        found = {each.name: each for each in sorted(self.handlers, key=rank)}
        return [found[name] for name in sorted(found)]


def check_places(*paths: Path | None) -> None:
    """Refuse, before minutes of measuring, what `save` could not write. Raises ConfigError."""
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{path} is a directory: name a file")
        if path.exists():
            if not os.access(path, os.W_OK):
                raise ConfigError(f"{path} cannot be written by this user: name another file")
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            what = f"{path.parent} is not a folder that this user may write to"
            raise ConfigError(f"{path} cannot be written: {what}")


def save(report: msgspec.Struct, path: Path) -> None:
    """Write it as JSON. Raises OSError."""
    path.write_bytes(msgspec.json.encode(report) + b"\n")


def read(path: Path) -> Report:
    """What `save` wrote of `bench run`. Raises ConfigError: it is no such file."""
    return read_as(path, Report, SCHEMA)


def read_as(path: Path, kind: type[Read], schema: str) -> Read:
    """What `save` wrote, of that kind. Raises ConfigError: it is no such file."""
    try:
        content = path.read_bytes()
        found = msgspec.json.decode(content, type=_Any).schema
        if found == schema:
            return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; name a file that --json wrote") from None
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} cannot be read as {schema}: {error}") from None
    raise ConfigError(f"{path} is {found or 'of no bench'}, not {schema}")


def failures(report: Report) -> list[str]:
    """What `--check` fails for, a sentence each: budgets not met, and budgets of which there are no samples."""
    found = []
    for row in report.rows:
        name = f"{row.documented.handler} ({row.source.name})"
        if not row.source.is_budget:
            continue
        if row.verdict == "no samples":
            wanted = ", ".join(row.documented.ours or row.documented.actions)
            found.append(f"{name}: no samples of {wanted}, so nothing is shown")
        elif row.verdict == "over" and row.mean is not None:
            ours = ", ".join(row.documented.ours)
            mean = row.mean / 1000
            found.append(f"{name}: {ours} takes {mean:.2f} µs on average, the budget is {row.documented.mean} µs")
        elif row.verdict == "over" and row.instead is not None:
            paid = row.instead.median / 1000
            found.append(f"{name}: a call pays {paid:.3f} µs instead, the budget is {row.documented.mean} µs")
    return found
