# SPDX-License-Identifier: GPL-2.0-or-later
"""What benchmarks are fed with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.workload import Workload, record_executions, recorded_executions


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--recording", type=Path, metavar="FILE", help="Take the executions of this recording.")


@pytest.fixture(scope="session")
def executions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """40,000 executions, recorded once; or those of ``--recording``."""
    path = request.config.getoption("--recording")
    if path is not None:
        return recorded_executions(path)
    if os.geteuid() != 0:
        pytest.skip("recording executions loads programs into the kernel, which needs root")
    return record_executions(tmp_path_factory.mktemp("recording"))
