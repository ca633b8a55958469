# SPDX-License-Identifier: GPL-2.0-or-later
"""From ring bytes to NDJSON on disk: the whole pipeline, and each stage's share of an event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio
from pytest_benchmark.fixture import BenchmarkFixture

from bench.actions import Action, actions
from bench.figures import spread
from bench.rounds import loaded
from bench.stages import PASSES
from bench.workload import Workload, repeated
from pipeline.config import Config
from pipeline.decode import Sequences, decode_span
from pipeline.live import update_ledger
from pipeline.run import settle_interpreter
from pipeline.stages import Pipeline, new_ledger
from probes.decoder import Decoder
from probes.errors import PreflightError
from probes.event import HostEvent, ProcessEvent
from probes.kernel.features import preflight
from probes.kernel.ring import Span
from probes.registry import all_events
from sinks.elasticsearch.bulk import bulks
from sinks.file import FileConfig
from sinks.kafka.message import Messages
from sinks.spool import SpoolConfig, open_spool


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Keep this process, its threads included, on one core."""
    settle_interpreter()
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


@pytest.mark.parametrize(("times", "rounds"), [(1, 15), (5, 9)], ids=["short", "long"])
def test_ring_bytes_to_ndjson(
    benchmark: BenchmarkFixture, executions: Workload, tmp_path: Path, times: int, rounds: int
) -> None:
    """Executions a second on one core with the ledger, md5 and process tree on, to a file with fsync.

    A short run has its start (programs to hash, encoders to make) and its last fsync in it, a long one less of them.
    """
    workload = repeated(executions, times)
    spans, records = workload.spans, workload.records
    output = tmp_path / "events.ndjson"

    def setup() -> tuple[tuple[Pipeline], dict[str, object]]:
        output.unlink(missing_ok=True)
        return (_pipeline(workload, output),), {}

    def run(pipeline: Pipeline) -> None:
        async def source(send: trio.MemorySendChannel[Span]) -> None:
            async with send:
                for span in spans:
                    await send.send(span)

        def final_counters() -> list[tuple[int, int, int]]:
            update_ledger(pipeline.ledger, workload.counters)
            return [(kind, cpu, counters.emitted) for kind, cpu, counters in workload.counters]

        trio.run(pipeline.run, source, final_counters)
        assert pipeline.ledger.is_closed()
        assert pipeline.ledger.kinds[59].sink("file").delivered == records

    benchmark.pedantic(run, setup=setup, rounds=rounds, warmup_rounds=2)  # type: ignore[no-untyped-call]
    benchmark.extra_info["events"] = records
    benchmark.extra_info["bytes_per_record"] = sum(len(span.data) for span in spans) // records
    benchmark.extra_info["bytes_per_line"] = output.stat().st_size // records
    assert benchmark.stats is not None
    benchmark.extra_info["events_per_second"] = round(records / benchmark.stats.stats.median)


def _pass(workload: Workload, folder: Path) -> dict[str, float]:
    """Seconds that each stage took for all of `spans`, each span going through all stages in turn."""
    pipeline = _pipeline(workload, folder / "unused")
    sequences = Sequences(pipeline.ledger)
    decoder = Decoder(all_events())
    messages = Messages("hookline-{data_type}", "smith", "agent")
    spool = open_spool(SpoolConfig(path=str(folder / "spool.db")), lost=lambda _sink, _counts: None)
    lines = os.open(folder / "lines", os.O_WRONLY | os.O_CREAT)
    spent: dict[str, float] = {}
    at = 0.0

    def lap(name: str) -> None:
        nonlocal at
        now = time.perf_counter()
        spent[name] = spent.get(name, 0.0) + now - at
        at = now

    async def run() -> None:
        nonlocal at
        for number, span in enumerate(workload.spans):
            at = time.perf_counter()
            events = decode_span(span, decoder, sequences, pipeline.ledger)
            lap("decode")
            for enrichment in pipeline.enrichments():
                await enrichment.enrich(cast("list[ProcessEvent]", events))
                lap(f"enrich: {type(enrichment).__name__}")
            smith = pipeline.encoder(events, "smith", 0)
            lap("encode smith")
            ecs = pipeline.encoder(events, "ecs", 0)
            lap("encode ecs")
            os.pwrite(lines, smith, 0)
            lap("sink file: write")
            for _message in messages(smith):
                pass
            lap("sink kafka: messages")
            for _bulk in bulks(ecs, "default", max_bytes=10 << 20):
                pass
            lap("sink elasticsearch: bulk")
            spool.put("file", number + 1, {59: len(events)}, smith)
            lap("spool: put")
            at = time.perf_counter()
            for stored in spool.take("file", 1):
                spool.done("file", stored.number)
            lap("spool: take and done")

    async def run_with_hashes() -> None:
        ended = trio.Event()

        async def forget(_events: list[HostEvent]) -> None:
            await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            assert pipeline.hashes is not None
            await nursery.start(pipeline.hashes.run, forget, ended)
            await run()
            ended.set()

    try:
        trio.run(run_with_hashes)
    finally:
        os.close(lines)
        spool.close()
    return spent


def test_stages(benchmark: BenchmarkFixture, executions: Workload, tmp_path: Path, step: Callable[[], None]) -> None:
    """What each stage costs an execution, in ns; medians and extremes of nine passes are in extra_info."""
    records = executions.records
    passes: list[dict[str, float]] = []

    def run() -> None:
        passes.append(_pass(executions, tmp_path))
        step()

    benchmark.pedantic(run, rounds=PASSES, warmup_rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["events"] = records
    benchmark.extra_info["stages"] = [
        {"name": stage, "ns": msgspec.to_builtins(spread([each[stage] / records * 1e9 for each in passes[1:]]))}
        for stage in passes[0]
    ]


def test_read(benchmark: BenchmarkFixture, tmp_path: Path, step: Callable[[], None]) -> None:
    """What reading the mapped ring costs an event, in ns: real records of prctl(2), nine full rings in turn."""
    try:
        preflight()
    except PreflightError as error:
        pytest.skip(f"filling a ring loads programs into the kernel: {error}")
    config = Config()
    action = Action("prctl", 10_000, "")
    costs: list[float] = []
    with loaded(config, ("prctl",)) as (_probes, ring), actions(tmp_path) as driver:

        def fill() -> None:
            driver.run(action)

        def empty() -> None:
            began, events = time.perf_counter(), 0
            while span := ring.read(config.collector.span_bytes):
                events += len(span.records)
            costs.append((time.perf_counter() - began) / events * 1e9)
            step()

        benchmark.pedantic(empty, setup=fill, rounds=PASSES)  # type: ignore[no-untyped-call]
    benchmark.extra_info["stages"] = [{"name": "read", "ns": msgspec.to_builtins(spread(costs))}]
