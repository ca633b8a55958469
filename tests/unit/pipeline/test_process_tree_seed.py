# SPDX-License-Identifier: GPL-2.0-or-later
"""The processes that were there before the collector, as /proc tells of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.identity import FileId
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from probes.text import cstring_text
from tests.unit.pipeline.family import new_tree, told
from tests.unit.pipeline.samples import SECOND, made

TICK_NS = SECOND // os.sysconf("SC_CLK_TCK")
OWN_FILE = FileId.of(os.stat("/proc/self/exe")).pack()
OWN_EXE = os.readlink(b"/proc/self/exe")


def status(pid: int) -> dict[str, str]:
    """/proc/PID/status, an independent way to what /proc/PID/stat says."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def start_of(pid: int) -> int:
    """Its start in ns, as a record has it: to the nanosecond, not to the tick."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19]) * TICK_NS + 1234


def line_of(pid: int) -> str:
    """Its pid_tree, from /proc."""
    parts: list[str] = []
    while pid:
        comm = Path(f"/proc/{pid}/comm").read_bytes().removesuffix(b"\n")
        parts.insert(0, f"{pid}({cstring_text(comm)})")
        pid = int(status(pid)["PPid"])
    return "->".join(parts)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until its input ends."""
    command = [sys.executable, "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


async def test_the_own_process_is_seeded() -> None:
    """After the seed every process that lives is known with all its ancestors, the collector itself too."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    pid = os.getpid()
    event = made(Exit, tgid=pid, pid=pid, ppid=os.getppid(), start_time=start_of(pid), exe_file=OWN_FILE)
    assert await told(tree, event) == [line_of(pid)]
    assert event.exe == OWN_EXE
    assert tree.statistics()["misses"] == 0


async def test_a_child_of_a_seeded_process(child: subprocess.Popen[bytes]) -> None:
    """A seeded process is the one that later events name to the nanosecond: a child joins its line."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    fork = made(
        Fork,
        tgid=child.pid,
        start_time=start_of(child.pid),
        child_tgid=7,
        child_start_time=SECOND,
        comm=b"py",
    )
    ended = made(Exit, tgid=7, ppid=child.pid, parent_start_time=start_of(child.pid), start_time=SECOND)
    assert (await told(tree, fork, ended))[1] == f"{line_of(child.pid)}->7(py)"


async def test_a_short_lived_child_has_its_parents_executable(child: subprocess.Popen[bytes]) -> None:
    """A child that has ended before anyone could look at it runs what its seeded parent runs."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    common = {"comm": b"py", "exe_file": OWN_FILE}
    start = start_of(child.pid)
    fork = made(Fork, tgid=child.pid, start_time=start, child_tgid=1 << 23, child_start_time=SECOND, **common)
    ended = made(Exit, tgid=1 << 23, ppid=child.pid, parent_start_time=start, start_time=SECOND, **common)
    await told(tree, fork, ended)
    assert (fork.exe, ended.exe) == (os.readlink(b"/proc/%d/exe" % child.pid),) * 2


async def test_another_life_of_a_seeded_pid(child: subprocess.Popen[bytes]) -> None:
    """A seeded pid whose start differs is another process, with another parent."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    start = start_of(child.pid) + SECOND
    event = made(Exit, tgid=child.pid, ppid=0, start_time=start, comm=b"new")
    assert await told(tree, event) == [f"{child.pid}(new)"]


async def test_a_fork_that_the_seed_saw_first(child: subprocess.Popen[bytes]) -> None:
    """A process that began between attaching and seeding is told by /proc and by an event, and is one."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    entries, pid, own = tree.statistics()["size"], child.pid, os.getpid()
    start = start_of(pid)
    fork = made(Fork, tgid=own, start_time=start_of(own), child_tgid=pid, child_start_time=start, comm=b"x")
    ended = made(Exit, tgid=pid, start_time=start, ppid=own, parent_start_time=start_of(own))
    assert await told(tree, fork, ended) == [line_of(own), line_of(pid)]
    assert tree.statistics()["size"] == entries


async def test_an_executable_is_only_told_of_the_same_file(child: subprocess.Popen[bytes]) -> None:
    """Where the process has executed something else since, its present path is not told of the old event."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    event = made(Exit, tgid=child.pid, start_time=start_of(child.pid), exe_file=OWN_FILE[::-1])
    await told(tree, event)
    assert event.exe == b""


async def test_a_seeded_parent(child: subprocess.Popen[bytes]) -> None:
    """A parent that did nothing since the start is told by its name and executable all the same."""
    tree = new_tree(ask_proc=True)
    tree.seed()
    event = made(Exit, tgid=1 << 23, start_time=SECOND, ppid=child.pid, parent_start_time=start_of(child.pid) + 1)
    await told(tree, event)
    name = Path(f"/proc/{child.pid}/comm").read_text(encoding="ascii").rstrip("\n")
    assert (event.parent_name, event.parent_exe) == (name, os.readlink(f"/proc/{child.pid}/exe"))


async def test_a_small_table_is_seeded_within_its_bound() -> None:
    """A host with more processes than the table holds fills it, and no more."""
    tree = new_tree(max_processes=2, ask_proc=True)
    tree.seed()
    assert tree.statistics()["size"] <= 2


async def test_a_replay_does_not_ask_this_host() -> None:
    """Events of another host are not explained by what runs on this one."""
    tree = new_tree(ask_proc=False)
    pid = os.getpid()
    parent = {"ppid": pid, "parent_start_time": start_of(pid)}
    event = made(Execve, tgid=1 << 23, start_time=SECOND, comm=b"x", exe_file=OWN_FILE, **parent)
    later = made(Exit, tgid=pid, start_time=start_of(pid), comm=b"theirs", exe_file=OWN_FILE)
    assert (await told(tree, event, later))[0] == f"{pid}(?)->{1 << 23}(x)"
    assert later.exe == b""
