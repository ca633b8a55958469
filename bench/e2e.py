# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench e2e``: from the kernel's time stamp to each sink's acknowledgement, at stated rates.

The rates are a timetable (open loop): a slow collector or sink does not slow the events down, and so cannot hide behind
those that it did not cause.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from bench.actions import Action, actions
from bench.collector import Buckets, Collector, await_, collecting, to_a_file
from bench.machine import Machine, Watch, machine
from bench.table import new_table
from pipeline.config import ConfigError, load

SCHEMA = "hookline-bench-e2e/1"

_ACTION = Action("connect_udp", 0, "connect(2) of a UDP socket")
_QUANTILES = (0.5, 0.9, 0.99, 0.999)
_WARM_S = 2.0


class Latency(msgspec.Struct, frozen=True):
    """One sink at one rate; seconds are upper ends of the buckets (ten a decade) that the quantiles lie in."""

    sink: str
    kind: str
    rate: int
    """Events a second that were asked for."""

    achieved: float
    events: int
    """Acknowledged; other processes' connections are among them."""

    p50_s: float
    p90_s: float
    p99_s: float
    p999_s: float
    dropped: int
    """Not delivered, whatever the reason, of all that the kernel numbered."""


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    seconds: float
    latencies: tuple[Latency, ...]
    warnings: tuple[str, ...]


def quantile(buckets: Buckets, share: float) -> float:
    """The upper end, s, of the bucket that this share of the events does not exceed; NaN where there are none."""
    total = max(buckets.values(), default=0)
    if not total:
        return math.nan
    return min(bound for bound, count in buckets.items() if count >= share * total)


def measure(config: Path | None, rates: Sequence[int], seconds: float, progress: Progress, *, command: str) -> Report:
    """Each rate for so many seconds.

    Raises:
        ConfigError: the configuration is wrong, has no metrics, or the collector does not start with it.
    """
    where, watch = machine(), Watch()
    found: list[Latency] = []
    each = round(_WARM_S + seconds)
    task = progress.add_task("end to end", total=len(rates) * each)

    def tick() -> None:
        progress.advance(task)

    with _configuration(config) as (path, listen, kinds), actions() as driver:
        for number, rate in enumerate(rates):
            progress.update(task, description=f"{rate:,} events/s", completed=number * each)
            with collecting(path, listen, "--probe", "connect") as collector:
                driver.paced(_ACTION, rate, _WARM_S, tick)
                _settle(collector, int(rate * _WARM_S * 0.9))
                before = collector.latencies()
                achieved = driver.paced(_ACTION, rate, seconds, tick)
                _settle(collector, _fewest(before) + int(rate * seconds * 0.9))
                after = collector.latencies()
            for sink, buckets in after.items():
                held = {bound: count - before.get(sink, {}).get(bound, 0) for bound, count in buckets.items()}
                p50, p90, p99, p999 = (quantile(held, share) for share in _QUANTILES)
                events = max(held.values())
                found.append(
                    Latency(sink, kinds[sink], rate, achieved, events, p50, p90, p99, p999, collector.undelivered(sink))
                )
    return Report(SCHEMA, command, where, seconds, tuple(found), tuple(watch.doubts()))


@contextmanager
def _configuration(config: Path | None) -> Iterator[tuple[Path, str, dict[str, str]]]:
    """The file, where its metrics are, and the kinds of its sinks."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        if config is None:
            config, _listen = to_a_file(Path(folder))
        held = load(config)
        if not held.metrics.listen:
            raise ConfigError(f"{config} has no metrics.listen, where the latencies are read: give an address")
        kinds = {name: type(sink).__name__.removesuffix("Config").lower() for name, sink in held.sinks.items()}
        yield config, held.metrics.listen, kinds


def _fewest(latencies: Mapping[str, Buckets]) -> int:
    return min((max(buckets.values(), default=0) for buckets in latencies.values()), default=0)


_PATIENCE_S = 60.0
_QUIET_S = 2.0
"""Longer than any sink takes for a batch: then all has been acknowledged."""


def _settle(collector: Collector, least: int) -> None:
    """Until every sink has acknowledged so many, and then no more come but the connections that its looks make.

    Raises ConfigError: one does not, with its own reason.
    """
    most, since, looks = 0, time.monotonic(), 0

    def look() -> bool:
        nonlocal most, since, looks
        latencies = collector.latencies()
        others = sum(max(buckets.values(), default=0) - looks for buckets in latencies.values())
        looks += 1
        if others > most:
            most, since = others, time.monotonic()
        return _fewest(latencies) >= least and time.monotonic() - since > _QUIET_S

    try:
        await_(look, "the sinks' acknowledgement of nine tenths of the events", _PATIENCE_S)
    except ConfigError as error:
        taken = {sink: max(buckets.values(), default=0) for sink, buckets in collector.latencies().items()}
        reasons = {sink: f" ({reason})" for sink, reason in collector.troubles().items()}
        of_sinks = (f"{sink} took {taken.get(sink, 0):,}{reasons.get(sink, '')}" for sink in taken | reasons)
        raise ConfigError(f"{error}: {'; '.join(of_sinks)}") from None


def show(report: Report, out: Console) -> None:
    """Print it."""
    columns = ("sink", "rate", "achieved", "events", "p50", "p90", "p99", "p99.9", "not delivered")
    table = new_table("From the kernel to the acknowledgement, ms", columns)
    for each in report.latencies:
        quantiles = (each.p50_s, each.p90_s, each.p99_s, each.p999_s)
        cells = (f"{1000 * seconds:,.0f}" if seconds >= 0.01 else f"{1000 * seconds:.1f}" for seconds in quantiles)
        table.add_row(
            each.sink, f"{each.rate:,}", f"{each.achieved:,.0f}", f"{each.events:,}", *cells, f"{each.dropped:,}"
        )
    out.print(table)
    for warning in report.warnings:
        out.print(f"[yellow]doubt:[/] {warning}")
