# SPDX-License-Identifier: GPL-2.0-or-later
"""What each program costs where it hooks, and what a system call pays that nothing hooks."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.config import Config, map_settings
from probes.kernel.bpf import program_statistics, run_statistics
from probes.kernel.loader import Loaded, Loading, request
from probes.registry import all_probes

_ACTIONS = Path(__file__).with_name("programs") / "actions.c"

_COUNTS = {
    "execve": 500,
    "execve_failed": 2000,
    "connect": 2000,
    "bind": 2000,
    "dns": 2000,
    "read": 20_000,
    "create_file": 2000,
    "open": 20_000,
    "rename": 2000,
    "link": 2000,
    "rmdir": 100,
    "ptrace": 2000,
    "mprotect": 2000,
    "kill": 2000,
    "tkill": 2000,
    "setsid": 2000,
    "prctl": 2000,
    "memfd_create": 2000,
    "mount": 200,
    "setuid": 2000,
    "bpf": 2000,
}
"""How often each action of actions.c is done in one pass."""

_PASSES = 5
_RING_BYTES = 1 << 28
"""Nobody reads: all events of the passes must fit, for refusing one costs less than taking it."""

_UNRELATED = 1_000_000
_ROUNDS = 9
"""Of the calls with and without probes, in turn."""


@pytest.fixture(scope="module")
def actions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0:
        pytest.skip("programs are loaded into the kernel, which needs root")
    program = tmp_path_factory.mktemp("actions") / "actions"
    subprocess.run(["/usr/bin/gcc", "-O2", "-o", program, _ACTIONS], check=True)
    return program


@contextmanager
def loaded(probes: tuple[str, ...]) -> Iterator[Loaded]:
    """These probes, attached as a collector has them."""
    config = Config()
    wanted = request(
        probes, ring_bytes=_RING_BYTES, settings=map_settings(config, os.getpid()), cache=config.collector.cache
    )
    with Loading(wanted).wait() as probes_there:
        yield probes_there


def once(actions: Path, action: str, count: int, folder: Path) -> float:
    """Nanoseconds that the action took on average."""
    done = subprocess.run([actions, action, str(count), folder], check=True, capture_output=True, timeout=120)
    return float(done.stdout)


def test_programs(benchmark: BenchmarkFixture, actions: Path, tmp_path: Path) -> None:
    """Mean ns of each run of each program, by the kernel's own statistics: median and extremes of the passes."""
    means: dict[str, list[float]] = defaultdict(list)
    runs: dict[str, int] = {}
    with loaded(tuple(all_probes())) as probes, run_statistics():

        def run() -> None:
            before = {name: program_statistics(fd) for name, fd in probes.programs.items()}
            for action, count in _COUNTS.items():
                once(actions, action, count, tmp_path)
            for name, fd in probes.programs.items():
                after = program_statistics(fd)
                if count := after.run_count - before[name].run_count:
                    means[name].append((after.run_time_ns - before[name].run_time_ns) / count)
                    runs[name] = runs.get(name, 0) + count

        benchmark.pedantic(run, rounds=_PASSES, warmup_rounds=1)  # type: ignore[no-untyped-call]
        kinds = range(len(all_probes()))
        assert not any(each.dropped for slot in kinds for each in probes.counters(slot)), "the ring was full"
    for name in sorted(means):
        costs = sorted(means[name])
        benchmark.extra_info[name] = {
            "runs": runs[name],
            "ns": round(statistics.median(costs)),
            "min": round(costs[0]),
            "max": round(costs[-1]),
        }


def test_unrelated_call(benchmark: BenchmarkFixture, actions: Path, tmp_path: Path) -> None:
    """ns that getppid(2) pays for the default probes beside it: without, with, without, ... in turn."""
    without: list[float] = []
    beside: list[float] = []

    def run() -> None:
        without.append(min(once(actions, "getppid", _UNRELATED, tmp_path) for _ in range(3)))
        with loaded(Config().collector.probes):
            beside.append(min(once(actions, "getppid", _UNRELATED, tmp_path) for _ in range(3)))

    benchmark.pedantic(run, rounds=_ROUNDS)  # type: ignore[no-untyped-call]
    paid = sorted(after - before for before, after in zip(without, beside, strict=True))
    benchmark.extra_info["without"] = round(statistics.median(without), 1)
    benchmark.extra_info["beside"] = round(statistics.median(beside), 1)
    benchmark.extra_info["paid"] = {
        "ns": round(statistics.median(paid), 1),
        "min": round(paid[0], 1),
        "max": round(paid[-1], 1),
    }
