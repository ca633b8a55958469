# SPDX-License-Identifier: GPL-2.0-or-later
"""From the start of the command to the first event in the file, and until all probes are attached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

_GIVE_UP_S = 60.0


@pytest.fixture(autouse=True)
def spawner() -> Iterator[None]:
    """A shell that runs something every 10 ms or so."""
    if os.geteuid() != 0:
        pytest.skip("the collector needs root")
    workload = ["/bin/sh", "-c", "while :; do /bin/true; /bin/sleep 0.01; done"]
    with subprocess.Popen(workload) as running:
        yield
        running.kill()


class Collector:
    """`hookline run` with the default probes and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "events.ndjson"
        self.cache = folder / "cache"
        self.config = folder / "config.toml"
        self.config.write_text(
            f'[collector]\ncache = "{self.cache}"\n[metrics]\nlisten = ""\n'
            f'[sinks.file]\ntype = "file"\npath = "{self.output}"\n'
        )
        self._log = folder / "log"
        self._command = [sys.executable, "-m", "pipeline.cli"]
        self._running: list[subprocess.Popen[bytes]] = []

    def compile(self) -> None:
        """Fill the cache."""
        subprocess.run([*self._command, "compile", "--config", self.config], check=True, stderr=subprocess.DEVNULL)

    def empty(self) -> None:
        """Empty the cache."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def start(self) -> None:
        """Start it; returns with the first execution in the file."""
        with self._log.open("wb") as log:
            command = [*self._command, "run", "--config", str(self.config)]
            self._running.append(subprocess.Popen(command, stderr=log))
        _await(lambda: self.output.exists() and b'"data_type":"59"' in self.output.read_bytes())

    def complete(self) -> None:
        """Returns when all probes are attached."""
        _await(lambda: b'"collecting"' in self._log.read_bytes())

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
            process.wait()
        self._running.clear()
        self.output.unlink(missing_ok=True)


def _await(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _GIVE_UP_S
    while not look():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(tmp_path)
    yield collector
    collector.stop()


def _start_and_complete(collector: Collector) -> None:
    collector.start()
    collector.complete()


def test_start_to_first_event(benchmark: BenchmarkFixture, collector: Collector) -> None:
    """Seconds until an execution stands in the file, the probes being in the cache as `make run` leaves it."""
    collector.compile()
    benchmark.pedantic(collector.start, setup=collector.stop, rounds=9)  # type: ignore[no-untyped-call]


def test_start_to_all_probes(benchmark: BenchmarkFixture, collector: Collector) -> None:
    """Seconds until all default probes are attached, from the cache."""
    collector.compile()
    benchmark.pedantic(  # type: ignore[no-untyped-call]
        _start_and_complete, args=(collector,), setup=collector.stop, rounds=5
    )


def test_cold_start_to_first_event(benchmark: BenchmarkFixture, collector: Collector) -> None:
    """Seconds until an execution stands in the file, with an empty cache."""

    def anew() -> None:
        collector.stop()
        collector.empty()

    benchmark.pedantic(collector.start, setup=anew, rounds=3)  # type: ignore[no-untyped-call]


def test_cold_start_to_all_probes(benchmark: BenchmarkFixture, collector: Collector) -> None:
    """Seconds until all default probes are attached, with an empty cache."""

    def anew() -> tuple[tuple[Collector], dict[str, object]]:
        collector.stop()
        collector.empty()
        return (collector,), {}

    benchmark.pedantic(_start_and_complete, setup=anew, rounds=3)  # type: ignore[no-untyped-call]
