# SPDX-License-Identifier: GPL-2.0-or-later
"""From ring bytes to NDJSON on disk: the whole pipeline, and each stage's share of an event."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
from pytest_benchmark.fixture import BenchmarkFixture

from bench.workload import Workload
from pipeline.config import Config
from pipeline.decode import Sequences, decode_span
from pipeline.live import update_ledger
from pipeline.run import settle_garbage
from pipeline.stages import Pipeline, new_ledger
from probes.decoder import Decoder
from probes.event import ProcessEvent
from probes.kernel.ring import Span
from probes.registry import all_events
from sinks.file import FileConfig


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Keep this process, its threads included, on one core."""
    settle_garbage()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def _pipeline(workload: Workload, output: Path) -> Pipeline:
    config = Config(sinks={"file": FileConfig(path=str(output), when_full="block", fsync="interval")})
    header = workload.header
    return Pipeline(
        config,
        new_ledger(),
        identity=header.run_id,
        host=header.host,
        boot_offset=lambda: header.boot_offset_ns,
        live=True,
    )


def test_ring_bytes_to_ndjson(benchmark: BenchmarkFixture, executions: Workload, tmp_path: Path) -> None:
    """Executions a second on one core with the ledger, md5 and process tree on, to a file with fsync."""
    spans, records = executions.spans, executions.records
    output = tmp_path / "events.ndjson"

    def setup() -> tuple[tuple[Pipeline], dict[str, object]]:
        output.unlink(missing_ok=True)
        return (_pipeline(executions, output),), {}

    def run(pipeline: Pipeline) -> None:
        async def source(send: trio.MemorySendChannel[Span]) -> None:
            async with send:
                for span in spans:
                    await send.send(span)

        def final_counters() -> list[tuple[int, int, int]]:
            update_ledger(pipeline.ledger, executions.counters)
            return [(kind, cpu, counters.emitted) for kind, cpu, counters in executions.counters]

        trio.run(pipeline.run, source, final_counters)
        assert pipeline.ledger.is_closed()
        assert pipeline.ledger.kinds[59].sink("file").delivered == records

    benchmark.pedantic(run, setup=setup, rounds=15, warmup_rounds=2)  # type: ignore[no-untyped-call]
    benchmark.extra_info["events"] = records
    benchmark.extra_info["bytes_per_record"] = sum(len(span.data) for span in spans) // records
    benchmark.extra_info["bytes_per_line"] = output.stat().st_size // records
    assert benchmark.stats is not None
    benchmark.extra_info["events_per_second"] = round(records / benchmark.stats.stats.median)


STAGES = ("decode", "process_tree", "users", "hashes", "encode smith", "encode ecs", "write")


def _pass(workload: Workload, fd: int, output: Path) -> dict[str, float]:
    """Seconds that each stage took for all of `spans`, each span going through all stages in turn."""
    pipeline = _pipeline(workload, output)
    sequences = Sequences(pipeline.ledger)
    decoder = Decoder(all_events())
    spent = dict.fromkeys(STAGES, 0.0)
    at = 0.0

    def lap(name: str) -> None:
        nonlocal at
        now = time.perf_counter()
        spent[name] += now - at
        at = now

    async def run() -> None:
        nonlocal at
        for span in workload.spans:
            at = time.perf_counter()
            events = decode_span(span, decoder, sequences, pipeline.ledger)
            lap("decode")
            for enrichment, name in zip(pipeline.enrichments(), STAGES[1:4], strict=True):
                await enrichment.enrich(cast("list[ProcessEvent]", events))
                lap(name)
            lines = pipeline.encoder(events, "smith", 0)
            lap("encode smith")
            pipeline.encoder(events, "ecs", 0)
            lap("encode ecs")
            os.pwrite(fd, lines, 0)
            lap("write")

    trio.run(run)
    return spent


def test_stages(benchmark: BenchmarkFixture, executions: Workload, tmp_path: Path) -> None:
    """What each stage costs an execution, in ns; medians and extremes of nine passes are in extra_info."""
    records = executions.records
    passes: list[dict[str, float]] = []
    fd = os.open(tmp_path / "lines", os.O_WRONLY | os.O_CREAT)

    def run() -> None:
        passes.append(_pass(executions, fd, tmp_path / "unused"))

    benchmark.pedantic(run, rounds=9, warmup_rounds=1)  # type: ignore[no-untyped-call]
    os.close(fd)
    for stage in STAGES:
        costs = sorted(round(each[stage] / records * 1e9) for each in passes)
        benchmark.extra_info[stage] = {"ns": costs[len(costs) // 2], "min": costs[0], "max": costs[-1]}
