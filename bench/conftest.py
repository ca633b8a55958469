# SPDX-License-Identifier: GPL-2.0-or-later
"""What benchmarks are fed with."""

from __future__ import annotations

import os

import pytest

from bench.workload import Workload, record_executions


@pytest.fixture(scope="session")
def executions(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """40,000 executions, recorded once."""
    if os.geteuid() != 0:
        pytest.skip("recording executions loads programs into the kernel, which needs root")
    return record_executions(tmp_path_factory.mktemp("recording"))
