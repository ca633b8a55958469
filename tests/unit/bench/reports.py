# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up samples of `bench run`, and reports of them."""

from __future__ import annotations

from collections.abc import Callable

from bench.actions import ACTIONS
from bench.budgets import Documented, load
from bench.machine import machine
from bench.report import SCHEMA, Report
from bench.samples import Samples
from probes.kernel.histogram import BUCKETS, EMPTY, Histogram, lower

FAST = {"execve": 5000, "connect": 700, "dns": 900, "open": 60}
"""ns with which every budget is met."""


def counted(nanoseconds: int, runs: int = 1000) -> Histogram:
    index = max(at for at in range(BUCKETS) if lower(at) <= nanoseconds)
    counts = tuple(runs if at == index else 0 for at in range(BUCKETS))
    return Histogram(counts, count=runs, total_ns=runs * nanoseconds, max_ns=nanoseconds)


def samples(*, paid: float = 20.0, rounds: int = 3, **nanoseconds: int) -> Samples:
    """Each of our programs takes so long; a call pays `paid` ns."""
    found = Samples()
    names = {
        "execve": "execve/execve_succeeded",
        "connect": "connect/connect_returned",
        "dns": "dns/dns_received",
        "open": "create_file/create_file_opened",
    }
    for number in range(rounds):
        for action, took in nanoseconds.items():
            found.inside(action, {names[action]: EMPTY}, {names[action]: counted(took + number)})
            found.kernel(action, names[action], 1000, 1000 * took)
        found.call("getppid", [100.0 + number], beside=False)
        found.call("getppid", [100.0 + number + paid], beside=True)
    return found


def report(found: Samples, asks_for: Callable[[Documented], bool] = lambda documented: True) -> Report:
    return Report(
        schema=SCHEMA, command="bench run", machine=machine(), probes=("all",), probes_of_calls=("default",), rounds=3,
        seconds=1.0, clock_ns=found.clock_ns, rows=found.rows(load(), asks_for), handlers=found.handlers(),
        calls=found.calls(ACTIONS), warnings=("the load was 9",), left_out=("usb: no",),
    )  # fmt: skip
