# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process takes in the process tree, in memory."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import cast

import trio
from pytest_benchmark.fixture import BenchmarkFixture

from bench.workload import Workload
from pipeline.decode import Sequences, decode_span
from pipeline.enrich.process_tree import ProcessTree
from pipeline.stages import new_ledger
from probes.decoder import Decoder
from probes.event import ProcessEvent
from probes.registry import all_events

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> int:
    """Bytes, once all that is free was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


def test_memory_of_a_process(benchmark: BenchmarkFixture, executions: Workload) -> None:
    """Resident bytes for each process, of which none ends and each is seen twice, so that its line is kept."""
    tree = ProcessTree(depth=12, max_processes=executions.records + 1000, ask_proc=False)
    decoder, ledger = Decoder(all_events()), new_ledger()
    sequences = Sequences(ledger)

    async def fill() -> None:
        for span in executions.spans:
            events = decode_span(span, decoder, sequences, ledger)
            for _ in ("its line is made", "is made again, and kept"):
                await tree.enrich(cast("list[ProcessEvent]", events))

    before = _resident()
    benchmark.pedantic(trio.run, args=(fill,), rounds=1)  # type: ignore[no-untyped-call]
    grown = _resident() - before
    size = tree.statistics()["size"]
    benchmark.extra_info["processes"] = size
    benchmark.extra_info["bytes_per_process"] = round(grown / size)
