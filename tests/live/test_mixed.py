# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything at once, but for what needs a module, a terminal, a JVM or an exploit: these have files of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.live.accounts import GAP
from tests.live.collector import ROOT, Collector, files_watched
from tests.live.conftest import SOURCES, Programs
from tests.live.tools import LIMIT_S, until

WORKERS = 4
IN_A_ROUND = 26
"""Operations that are told."""


@pytest.mark.guest
@pytest.mark.parametrize("operations", [500, 5000])
def test_mixed_operations(operations: int, programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """Of thousands of operations of 24 kinds by several processes at once, each is told once, and nothing else.

    A kernel that lets others run while a program of ours runs may skip it for them; then no more are missing than it
    counts.
    """
    until(lambda: "libc" in files_watched(collector), "the library that looks names up")
    rounds = -(-operations // (WORKERS * IN_A_ROUND))
    before, skipped_before = len(collector.sync()), collector.skipped_by_kernel()
    workers = []
    for number in range(WORKERS):
        (folder := tmp_path / str(number)).mkdir()
        command: list[str | Path] = [sys.executable, "-B", SOURCES / "mixed.py", folder, str(rounds), programs("nop")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
    done: Counter[tuple[int, int]] = Counter()
    for worker in workers:
        out, _ = worker.communicate(timeout=4 * LIMIT_S)
        assert worker.returncode == 0
        done.update({(kind, pid): count for kind, pid, count in json.loads(out)})
    events = collector.sync()[before:]
    kinds, processes = {kind for kind, _pid in done}, {pid for _kind, pid in done}
    told = Counter((int(e["data_type"]), int(e["tgid"])) for e in events if "tgid" in e)
    mine = Counter({key: n for key, n in told.items() if key[0] in kinds and key[1] in processes})
    assert mine - done == Counter()
    assert (done - mine).total() <= collector.skipped_by_kernel() - skipped_before, done - mine
    assert done.total() >= operations
    assert [event for event in events if event["data_type"] == str(GAP)] == []
