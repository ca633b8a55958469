# SPDX-License-Identifier: GPL-2.0-or-later
"""What a benchmark of pytest-benchmark leaves in ``--benchmark-json``: its times, what it noted, the machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.figures import Spread, spread
from bench.machine import Machine
from pipeline.config import ConfigError

if TYPE_CHECKING:
    from pytest_benchmark.stats import Metadata

SCHEMA = "hookline-bench-kept/1"

_NEEDED = ("pytest", "pytest_benchmark")
"""Of requirements-dev.txt; all else here does with requirements.txt."""

_REASON = re.compile(r"^(?:FAILED |ERROR:? |E +|.*pytest: error: |Fatal Python error: )(?!usage:)(.+)$", re.MULTILINE)
"""Lines of pytest that say why; the last stands in its summary, if it came to one."""


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


def require(command: str) -> None:
    """Refuse a command that `run` could not serve. Raises ConfigError: pytest or pytest-benchmark is not installed."""
    if not all(map(importlib.util.find_spec, _NEEDED)):
        raise ConfigError(
            f"{command} takes pytest and pytest-benchmark, which are not installed: "
            "make check installs them, as make test and make bench do"
        )


def reason(said: str) -> str:
    """Why pytest failed, of all that it said: the line that tells it, or the last."""
    told = _REASON.findall(said) or said.split("\n")
    return str(told[-1]).strip() or "pytest said nothing"


def run(tests: Path, *options: str, step: Callable[[], None]) -> tuple[Benchmark, ...]:
    """Run the benchmarks of a file in a pytest of their own; `step` is called for each call of their fixture `step`.

    Raises:
        ConfigError: one failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        results, said = Path(folder) / "results.json", Path(folder) / "said"
        reading, writing = os.pipe()
        command = [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"--benchmark-json={results}", f"--steps={writing}", *options, str(tests)),
        ]
        environment = {**os.environ, "COLUMNS": "1000"}  # pytest cuts its reasons where the line ends
        with open(reading, "rb", buffering=0) as steps, said.open("wb") as log:
            try:
                process = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd=tests.parents[1], pass_fds=[writing], env=environment
                )
            finally:
                os.close(writing)
            with process:
                while steps.read(1):
                    step()
        if process.returncode or not results.exists():
            raise ConfigError(f"the benchmarks failed: {reason(said.read_text(errors='replace').strip())}")
        return msgspec.json.decode(results.read_bytes(), type=Kept).benchmarks
