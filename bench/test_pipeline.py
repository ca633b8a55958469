# SPDX-License-Identifier: GPL-2.0-or-later
"""From ring bytes to NDJSON on disk: the whole pipeline, and each stage's share of an event."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from pytest_benchmark.fixture import BenchmarkFixture

from pipeline.batch import Batch
from pipeline.config import Config
from pipeline.decode import Sequences, decode_span
from pipeline.live import update_ledger
from pipeline.recording import Recording
from pipeline.stages import Pipeline, new_ledger
from probes.decoder import Decoder
from probes.event import ProcessEvent
from probes.kernel.ring import Span
from probes.registry import all_events
from sinks.file import FileConfig


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Keep this process, its threads included, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def _pipeline(recording: Recording, output: Path) -> Pipeline:
    config = Config(sinks={"file": FileConfig(path=str(output), when_full="block", fsync="interval")})
    header = recording.header
    return Pipeline(
        config,
        new_ledger(),
        identity=header.run_id,
        host=header.host,
        boot_offset=lambda: header.boot_offset_ns,
        live=True,
    )


def test_ring_bytes_to_ndjson(
    benchmark: BenchmarkFixture, execve_recording: Recording, tmp_path: Path
) -> None:
    """Executions a second on one core with the ledger, md5 and process tree on, to a file with fsync."""
    spans = list(execve_recording.spans())
    records = sum(len(span.records) for span in spans)
    output = tmp_path / "events.ndjson"

    def run() -> None:
        pipeline = _pipeline(execve_recording, output)

        async def source(send: trio.MemorySendChannel[Span]) -> None:
            async with send:
                for span in spans:
                    await send.send(span)

        def final_counters() -> list[tuple[int, int, int]]:
            update_ledger(pipeline.ledger, execve_recording.counters)
            return [(kind, cpu, counters.emitted) for kind, cpu, counters in execve_recording.counters]

        trio.run(pipeline.run, source, final_counters)
        assert pipeline.ledger.is_closed()
        assert pipeline.ledger.kinds[59].sink("file").delivered == records

    benchmark.pedantic(run, setup=lambda: output.unlink(missing_ok=True), rounds=15, warmup_rounds=2)
    benchmark.extra_info["events"] = records
    benchmark.extra_info["bytes_per_record"] = sum(len(span.data) for span in spans) // records
    benchmark.extra_info["bytes_per_line"] = output.stat().st_size // records
    benchmark.extra_info["events_per_second"] = round(records / benchmark.stats.stats.median)


STAGES = ("decode", "process_tree", "users", "hashes", "batch", "encode smith", "encode ecs", "write")


@pytest.mark.parametrize("stage", STAGES)
def test_stage(
    benchmark: BenchmarkFixture, execve_recording: Recording, tmp_path: Path, stage: str
) -> None:
    """What one stage alone costs for every event, in its place behind the stages before it."""
    spans = list(execve_recording.spans())
    records = sum(len(span.records) for span in spans)
    decoder = Decoder(all_events())
    fd = os.open(tmp_path / "lines", os.O_WRONLY | os.O_CREAT)

    def one_pass() -> float:
        pipeline = _pipeline(execve_recording, tmp_path / "unused")
        sequences = Sequences(pipeline.ledger)
        spent = 0.0

        def timed(name: str, work: Callable[[], object]) -> object:
            nonlocal spent
            start = time.perf_counter()
            done = work()
            if name == stage:
                spent += time.perf_counter() - start
            return done

        async def run() -> None:
            nonlocal spent
            for span in spans:
                events = timed("decode", lambda span=span: decode_span(span, decoder, sequences, pipeline.ledger))  # type: ignore[misc]
                assert isinstance(events, list)
                processes = [event for event in events if isinstance(event, ProcessEvent)]
                for enrichment, name in zip(pipeline.enrichments(), ("process_tree", "users", "hashes"), strict=True):
                    start = time.perf_counter()
                    await enrichment.enrich(processes)
                    if name == stage:
                        spent += time.perf_counter() - start
                batch = timed("batch", lambda events=events: Batch(events, pipeline.encoder))  # type: ignore[misc]
                assert isinstance(batch, Batch)
                lines = timed("encode smith", lambda batch=batch: batch.encoded("smith"))  # type: ignore[misc]
                timed("encode ecs", lambda batch=batch: batch.encoded("ecs") if "ecs" in stage else None)  # type: ignore[misc]
                assert isinstance(lines, bytes)
                timed("write", lambda lines=lines: os.pwrite(fd, lines, 0))  # type: ignore[misc]

        trio.run(run)
        return spent

    one_pass()
    costs = deque(one_pass() / records for _ in range(9))
    benchmark.extra_info["ns_per_event"] = round(sorted(costs)[4] * 1e9)
    benchmark.extra_info["ns_per_event_spread"] = [round(min(costs) * 1e9), round(max(costs) * 1e9)]
    benchmark.pedantic(lambda: None, rounds=1)
    os.close(fd)
