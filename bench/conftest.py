# SPDX-License-Identifier: GPL-2.0-or-later
"""What benchmarks are fed with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pytest_benchmark.stats import Metadata

from bench.kept import kept
from bench.machine import Watch, machine
from bench.workload import Workload, record_executions, recorded_executions


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recording", type=Path, metavar="FILE", help="Take the executions of this recording.")
    parser.addoption("--steps", type=int, metavar="FD", help="Write a byte there for each step that is done.")


_WATCH = pytest.StashKey[Watch]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_WATCH] = Watch()


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: Sequence[Metadata], output_json: dict[str, Any]
) -> None:
    found = kept(benchmarks, machine(), tuple(config.stash[_WATCH].doubts()))
    output_json.clear()
    output_json |= msgspec.to_builtins(found)


@pytest.fixture(scope="session")
def step(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Tells who runs this that one more step is done, for a bar with the time left."""
    fd = request.config.getoption("--steps")

    def tell() -> None:
        if fd is not None:
            os.write(fd, b".")

    return tell


@pytest.fixture(scope="session")
def executions(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, step: Callable[[], None]
) -> Workload:
    """40,000 executions, recorded once; or those of ``--recording``."""
    path = request.config.getoption("--recording")
    if path is not None:
        return recorded_executions(path)
    if os.geteuid() != 0:
        pytest.skip("recording executions loads programs into the kernel, which needs root")
    return record_executions(tmp_path_factory.mktemp("recording"), step)
