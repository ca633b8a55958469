# SPDX-License-Identifier: GPL-2.0-or-later
"""Ancestors: those that have ended, and those of a pid's other lives."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, Tables

SPINE: Tables = {"collector": {"probes": ["execve", "exit", "fork"]}}
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture(scope="module")
def collector(tracefs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("collector"), SPINE, schema="ecs") as running:
        yield running
        running.stop().check()


def executions(collector: Collector, pid: int) -> list[Event]:
    """What the lives of `pid` executed."""
    return [e for e in collector.sync() if e["event"]["action"] == "execve" and e["process"]["pid"] == pid]


def reused(pid: int, command: list[str | Path]) -> bool:
    """Run a command in a new process of this very pid; whether nobody else was quicker."""
    LAST_PID.write_text(str(pid - 1))
    child = os.fork()
    if child == 0:
        try:
            if os.getpid() == pid:
                os.execv(command[0], [os.fspath(part) for part in command])  # noqa: S606 - of this pid
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return child == pid


def test_a_reused_pid(programs: Programs, collector: Collector) -> None:
    """A pid's second life has the ancestors, the parent and the entity of its own, never those of the first."""
    script = 'sh -c \'"$0" first; echo $$; exec "$0" first\' "$0"; :'
    nop, pid, lives = programs("nop"), 0, 0
    for _ in range(50):
        first = subprocess.run(["sh", "-c", script, nop], check=True, capture_output=True, timeout=LIMIT_S)
        pid = int(first.stdout)
        if reused(pid, [nop, "second"]):
            lives += 1
            break
    assert lives, "no pid could be had again"
    *_, former, latter = executions(collector, pid)
    assert (former["process"]["args"][1], latter["process"]["args"][1]) == ("first", "second")
    assert former["process"]["entity_id"] != latter["process"]["entity_id"]
    assert former["process"]["parent"]["pid"] != latter["process"]["parent"]["pid"] == os.getpid()
    own, line = f"{os.getpid()}(", latter["hookline"]["process"]["tree"].split("->")
    assert line[-2].startswith(own)
    assert "(sh)" in former["hookline"]["process"]["tree"].rpartition(own)[2]
    assert line[-1] == f"{pid}(nop)"
    parent = latter["process"]["parent"]
    assert parent["name"] == Path("/proc/self/comm").read_text().rstrip("\n")
    assert parent["executable"] == os.readlink("/proc/self/exe")
    assert former["process"]["parent"]["name"] == "sh"
    assert former["process"]["parent"]["executable"] == os.path.realpath(shutil.which("sh") or "")


def test_ancestors_that_ended(programs: Programs, collector: Collector) -> None:
    """A process whose parent ended before it did anything is still told with it, by name."""
    reading, writing = os.pipe()
    script = 'exec 3<&0; (read go; exec "$0" late) <&3 >&2 & echo $!'
    command: list[str | Path] = ["sh", "-c", script, programs("nop")]
    with subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, text=True) as middle:
        assert middle.stdout is not None
        child = int(middle.stdout.readline())
        assert middle.wait(LIMIT_S) == 0
    os.write(writing, b"\n")
    os.close(reading)
    os.close(writing)
    told = executions(collector, child)
    event = next(each for each in told if each["process"]["args"][1:] == ["late"])
    assert event["process"]["parent"]["pid"] != middle.pid
    line = event["hookline"]["process"]["tree"].split("->")
    assert line[-2:] == [f"{middle.pid}(sh)", f"{child}(nop)"]
    assert line[-3].startswith(f"{os.getpid()}(")


def test_parents_in_ecs(programs: Programs, collector: Collector) -> None:
    """A process's parent is told by its id, its start and its entity, which are those of the parent's own events."""
    script = '"$0" child; exit 0'
    with subprocess.Popen(["sh", "-c", script, programs("nop")]) as process:
        process.wait()
    parent = executions(collector, process.pid)[-1]["process"]
    child = next(
        e["process"]
        for e in collector.events
        if e["event"]["action"] == "execve" and e["process"].get("parent", {}).get("pid") == process.pid
    )
    assert child["parent"]["entity_id"] == parent["entity_id"]
    assert child["parent"]["start"] == parent["start"]
    assert parent["parent"]["pid"] == os.getpid()
