# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm of executions, each of a program that was never seen before, beside auditd under the very same load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from pytest_benchmark.fixture import BenchmarkFixture

from bench.rivals import Rival, auditd, hookline
from bench.storm import PASSES, RATE, SECONDS, Pass

PROGRAMS = Path(__file__).parent / "programs"
NOP = Path(__file__).parents[1] / "tests" / "live" / "programs" / "nop.c"

LATE = 0.02
"""Share of the time by which a storm may take longer, and still is one of that rate."""


def kernel_thread(name: str) -> int:
    """The pid of a kernel thread; 0: there is none."""
    found = subprocess.run(["pgrep", "-x", name], capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else 0


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, step: Callable[[], None]) -> Iterator[Path]:
    """The storm's program, and as many others as it runs in one pass after the other, all different."""
    if os.geteuid() != 0:
        pytest.skip("to load programs into the kernel needs root")
    folder = tmp_path_factory.mktemp("storm")
    subprocess.run(["gcc", "-O2", "-o", folder / "execstorm", PROGRAMS / "execstorm.c"], check=True)
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-s", "-o", folder / "nop", NOP], check=True)
    nop = (folder / "nop").read_bytes()
    (folder / "programs").mkdir()
    for number in range(RATE * SECONDS * PASSES):
        program = folder / "programs" / str(number)
        program.write_bytes(nop + b"%d" % number)
        program.chmod(0o755)
    step()
    yield folder
    shutil.rmtree(folder)


def storm(tools: Path, number: int) -> float:
    """One pass; gives its seconds."""
    each = RATE * SECONDS
    command: list[str | Path] = [tools / "execstorm", str(RATE), str(number * each), str(each), tools / "programs"]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=SECONDS * 10).stdout)


def measured(who: str, watching: AbstractContextManager[Rival], tools: Path, number: int) -> Pass:
    """A pass beside one that watches: what it cost, and what it says it lost."""
    thread = Rival(kernel_thread("kauditd"))
    with watching as rival:
        before, before_thread = rival.cpu_s(), thread.cpu_s()
        seconds = storm(tools, number)
        rival.settle()
        used, used_thread = rival.cpu_s() - before, thread.cpu_s() - before_thread
        peak_mib = rival.peak_kib() / 1024
    return Pass(who, RATE * SECONDS, seconds, 0, 0, used, used_thread, peak_mib, rival.lost)


def collected(tools: Path, number: int, folder: Path) -> Pass:
    """A pass under the collector; every execution must be there with its own digest, and the ledger closed."""
    folder.mkdir()
    found = measured("hookline", hookline(folder), tools, number)
    statuses: Counter[str] = Counter()
    with (folder / "events.ndjson").open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"data_type":"59"') and f'"exe":"{tools}/programs/'.encode() in line:
                event = json.loads(line)
                statuses[event["exe_hash_status"]] += 1
                if event["exe_hash_status"] == "verified":
                    content = Path(event["exe"]).read_bytes()
                    assert event["exe_md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert found.lost == 0
    assert statuses == {"verified": RATE * SECONDS}
    assert found.seconds < SECONDS * (1 + LATE)
    return replace(found, told=statuses.total(), verified=statuses["verified"])


def audited(tools: Path, number: int, folder: Path) -> Pass:
    """A pass under auditd with the rule that tells executions."""
    folder.mkdir()
    found = measured("auditd", auditd(folder, [("-S", "execve,execveat")]), tools, number)
    with (folder / "audit" / "audit.log").open("rb") as lines:
        told = sum(b"type=SYSCALL" in line and b'exe="%b/programs/' % os.fsencode(tools) in line for line in lines)
    return replace(found, told=told)


def test_storm(benchmark: BenchmarkFixture, tools: Path, tmp_path: Path, step: Callable[[], None]) -> None:
    """1,600 executions a second for 30 s, each of another program: each told with its digest, beside auditd in turn."""
    passes: list[Pass] = []
    numbers = count()

    def run() -> None:
        number = next(numbers)
        passes.append(collected(tools, number, tmp_path / f"collector{number}"))
        step()
        if shutil.which("auditd") and shutil.which("auditctl"):
            passes.append(audited(tools, number, tmp_path / f"auditd{number}"))
        step()

    benchmark.pedantic(run, rounds=PASSES)  # type: ignore[no-untyped-call]
    benchmark.extra_info["passes"] = msgspec.to_builtins(passes)
