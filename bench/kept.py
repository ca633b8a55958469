# SPDX-License-Identifier: GPL-2.0-or-later
"""What a benchmark of pytest-benchmark leaves in ``--benchmark-json``: its times, what it noted, the machine."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from pytest_benchmark.stats import Metadata

from bench.figures import Spread, spread
from bench.machine import Machine
from pipeline.config import ConfigError

SCHEMA = "hookline-bench-kept/1"


class Benchmark(msgspec.Struct, frozen=True):
    """One of them."""

    name: str
    seconds: Spread
    """Of its rounds."""

    extra_info: dict[str, Any]
    """What it noted itself."""


class Kept(msgspec.Struct, frozen=True):
    """All of one run."""

    schema: str
    command: str
    machine: Machine
    benchmarks: tuple[Benchmark, ...]
    warnings: tuple[str, ...]

    def noted(self, name: str) -> dict[str, Any]:
        """What that benchmark noted. Raises KeyError."""
        return {each.name: each.extra_info for each in self.benchmarks}[name]


def kept(benchmarks: Sequence[Metadata], where: Machine, doubts: Sequence[str]) -> Kept:
    """What is kept of this run of pytest."""
    # The file that it is written to is nobody's concern.
    arguments = [each for each in sys.argv[1:] if not each.startswith("--benchmark-json=")]
    found = tuple(
        Benchmark(each.name, spread(each.stats.data), dict(each.extra_info)) for each in benchmarks if each.stats.data
    )
    return Kept(SCHEMA, shlex.join(["pytest", *arguments]), where, found, tuple(doubts))


def run(tests: Path, *options: str) -> tuple[Benchmark, ...]:
    """Run the benchmarks of a file in a pytest of their own.

    Raises:
        ConfigError: pytest-benchmark is not installed, or one failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [sys.executable, "-m", "pytest", "-q", f"--benchmark-json={results}", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *options, str(tests)], check=False, capture_output=True, text=True, cwd=tests.parents[1]
        )
        if done.returncode or not results.exists():
            raise ConfigError(f"the benchmarks failed: {(done.stdout + done.stderr).strip()[-800:]}")
        return msgspec.json.decode(results.read_bytes(), type=Kept).benchmarks
