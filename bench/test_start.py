# SPDX-License-Identifier: GPL-2.0-or-later
"""From the start of the command to the first event in the file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

_GIVE_UP_S = 30.0


def test_start_to_first_event(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Seconds until an execution stands in the file, beside a shell that runs one every 10 ms or so."""
    if os.geteuid() != 0:
        pytest.skip("the collector needs root")
    output = tmp_path / "events.ndjson"
    command = [sys.executable, "-m", "pipeline.cli", "run", "--output", str(output)]
    running: list[subprocess.Popen[bytes]] = []

    def stop() -> None:
        for process in running:
            process.terminate()
            process.wait()
        running.clear()
        output.unlink(missing_ok=True)

    def start() -> None:
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + _GIVE_UP_S
        while not (output.exists() and b'"data_type":"59"' in output.read_bytes()):
            assert time.monotonic() < deadline, "no event arrived"
            time.sleep(0.005)

    workload = ["/bin/sh", "-c", "while :; do /bin/true; /bin/sleep 0.01; done"]
    with subprocess.Popen(workload) as spawner:
        try:
            benchmark.pedantic(start, setup=stop, rounds=9)  # type: ignore[no-untyped-call]
        finally:
            stop()
            spawner.kill()
