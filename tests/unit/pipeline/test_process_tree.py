# SPDX-License-Identifier: GPL-2.0-or-later
"""Who descends from whom, as the events tell it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.enrich.process_tree import IS_BUILT, ProcessTree
from probes.event import ProcessEvent
from probes.identity import FileId
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from tests.unit.pipeline import family
from tests.unit.pipeline.family import Life, told
from tests.unit.pipeline.samples import SECOND, made

NewTree = Callable[..., ProcessTree]


@pytest.fixture(
    params=[False, pytest.param(True, marks=pytest.mark.skipif(not IS_BUILT, reason="no tracker in C was built"))],
    ids=["python", "c"],
    scope="module",
)
def new_tree(request: pytest.FixtureRequest) -> NewTree:
    """Both ways of the usual turns."""
    return partial(family.new_tree, in_c=request.param)


async def test_a_child_descends_from_its_parent(new_tree: NewTree) -> None:
    """A fork makes the child known: its first event already has its ancestors."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    executed = shell.executes(b"bash")
    child, forked_again = shell.forks(11, 2)
    lines = await told(tree, forked, executed, forked_again, child.ends())
    assert lines == ["1(init)", "1(init)->10(bash)", "1(init)->10(bash)", "1(init)->10(bash)->11(bash)"]


async def test_an_execution_renames(new_tree: NewTree) -> None:
    """From its execution on a process has its new name, in that very event too; a failure changes nothing."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    lines = await told(tree, forked, shell.executes(b"ls"), shell.fails_to_execute(b"no"), shell.ends())
    assert lines[1:] == ["1(init)->10(ls)"] * 3


async def test_an_execution_renames_in_lines_of_descendants(new_tree: NewTree) -> None:
    """A process that had children when it executed has its new name in their lines and their children's."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    child, forked_child = shell.forks(11, 2)
    grandchild, forked_grandchild = child.forks(12, 3)
    events = [forked, forked_child, forked_grandchild, grandchild.executes(b"cat"), child.ends()]
    assert (await told(tree, *events))[3:] == [
        "1(init)->10(init)->11(init)->12(cat)",
        "1(init)->10(init)->11(init)",
    ]
    lines = await told(tree, shell.executes(b"zsh"), grandchild.ends())
    assert lines == ["1(init)->10(zsh)", "1(init)->10(zsh)->11(init)->12(cat)"]


async def test_ancestors_that_ended_are_still_named(new_tree: NewTree) -> None:
    """A parent that ended before its child stays the child's parent."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    child, forked_child = shell.forks(11, 2)
    await told(tree, forked, shell.executes(b"bash"), forked_child, shell.ends())
    child.parent = init  # what the kernel says from now on
    line = (await told(tree, child.executes(b"daemon")))[0]
    assert line == "1(init)->10(bash)->11(daemon)"


async def test_an_unknown_process_and_its_unknown_parent(new_tree: NewTree) -> None:
    """Of a process whose fork was not seen, its own event says who it is and which pid its parent is."""
    tree = new_tree()
    child = Life(20, 5, Life(19, 4), comm=b"late")
    assert await told(tree, child.ends()) == ["19(?)->20(late)"]
    assert tree.statistics()["misses"] == 1


@pytest.mark.parametrize(
    ("depth", "line"),
    [(1, "...->4(d)"), (2, "...->3(c)->4(d)"), (3, "...->2(b)->3(c)->4(d)"), (4, None), (9, None)],
)
async def test_long_lines_are_cut(depth: int, line: str | None, new_tree: NewTree) -> None:
    """Beyond the depth the oldest ancestors are an ellipsis; what fits has none."""
    tree, lives = new_tree(depth=depth), [Life(1, 0, comm=b"a")]
    events: list[ProcessEvent] = [lives[0].executes(b"a")]
    for pid, name in ((2, b"b"), (3, b"c"), (4, b"d")):
        child, forked = lives[-1].forks(pid, pid)
        lives.append(child)
        events += [forked, child.executes(name)]
    lines = await told(tree, *events)
    assert lines[-1] == (line or "1(a)->2(b)->3(c)->4(d)")


async def test_a_reused_pid_is_another_process(new_tree: NewTree) -> None:
    """A pid's second life has neither the first one's parent, name nor executable, nor its children."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    first, forked = init.forks(10, 1)
    orphan, forked_orphan = first.forks(11, 2)
    await told(tree, forked, first.executes(b"evil"), forked_orphan, first.ends())
    other, forked_other = init.forks(12, 3)
    second, forked_second = other.forks(10, 4)
    event = second.ends()
    assert (await told(tree, forked_other, forked_second, event))[-1] == "1(init)->12(init)->10(init)"
    assert not event.exe
    assert await told(tree, orphan.ends()) == ["1(init)->10(evil)->11(init)"]


async def test_a_reused_pid_whose_fork_was_lost(new_tree: NewTree) -> None:
    """A second life that is only known from its own event is another process all the same."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    first, forked = init.forks(10, 1)
    await told(tree, forked, first.executes(b"evil"))
    other = Life(12, 3, init, comm=b"other")
    second = Life(10, 4, other, comm=b"good", file=bytes(40))
    event = second.ends()
    lines = await told(tree, event)
    assert lines == ["12(?)->10(good)"]
    assert not event.exe


async def test_the_parent_by_name_and_executable(new_tree: NewTree) -> None:
    """An event names its parent and the parent's executable as they were then."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    executed = shell.executes(b"bash")
    child, forked_child = shell.forks(11, 2)
    first = child.executes(b"cat")
    await told(tree, forked, executed, forked_child, first)
    assert (first.parent_name, first.parent_exe) == ("bash", "/bin/bash")
    second = child.ends()
    await told(tree, shell.executes(b"zsh"), second)
    assert (second.parent_name, second.parent_exe) == ("zsh", "/bin/zsh")
    assert (first.parent_name, first.parent_exe) == ("bash", "/bin/bash")


async def test_the_parent_is_the_one_that_the_kernel_told(new_tree: NewTree) -> None:
    """A process whose parent ended is told with the name of whose child it is now, beside that one's id."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    service, forked = init.forks(9, 1)
    events = [forked, service.executes(b"service")]
    shell, forked = service.forks(10, 1)
    events += [forked, shell.executes(b"bash")]
    child, forked = shell.forks(11, 2)
    await told(tree, *events, forked)
    child.parent = service
    event = child.ends()
    assert await told(tree, shell.ends(), event) == [
        "1(init)->9(service)->10(bash)",
        "1(init)->9(service)->10(bash)->11(bash)",
    ]
    assert (event.ppid, event.parent_name, event.parent_exe) == (9, "service", "/bin/service")


async def test_a_parents_pid_that_had_another_life(new_tree: NewTree) -> None:
    """A parent is never told by the name of another life of its pid."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    first, forked = init.forks(10, 1)
    child, forked_child = first.forks(11, 2)
    await told(tree, forked, first.executes(b"evil"), forked_child)
    child.parent = Life(10, 4, init)
    event = child.ends()
    await told(tree, event)
    assert (event.parent_name, event.parent_exe) == ("", "")


async def test_a_pid_reused_within_a_clock_tick(new_tree: NewTree) -> None:
    """Two lives that began within one tick of /proc's clock are two, where both starts are known exactly."""
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    first, forked = init.forks(10, 1)
    await told(tree, forked, first.executes(b"evil"), first.ends())
    start = first.start_ns + 1000
    fork = made(Fork, tgid=1, pid=1, start_time=init.start_ns, child_tgid=10, child_start_time=start, comm=b"init")
    event = made(Exit, tgid=10, pid=10, ppid=1, start_time=start, parent_start_time=init.start_ns, comm=b"init")
    assert (await told(tree, fork, event))[1] == "1(init)->10(init)"
    assert not event.exe


async def test_executables(new_tree: NewTree) -> None:
    """A process has the path of its last execution, and so have its children; a failure changes nothing."""
    tree, init = new_tree(), Life(1, 0)
    shell, forked = init.forks(10, 1)
    executed = shell.executes(b"bash")
    failed = shell.fails_to_execute(b"none")
    child, child_forked = shell.forks(11, 2)
    ended = child.ends()
    await told(tree, forked, executed, failed, child_forked, ended)
    assert [event.exe for event in (executed, failed, child_forked, ended)] == [b"/bin/bash"] * 4


async def test_an_execution_that_was_not_seen(new_tree: NewTree) -> None:
    """Where the record's executable is not the last one told, no path is better than a wrong one."""
    tree, shell = new_tree(), Life(10, 1, Life(1, 0))
    await told(tree, shell.executes(b"bash"))
    shell.file = bytes(39) + b"!"
    event = shell.ends()
    await told(tree, event)
    assert event.exe == b""


RUNS = FileId(inode=7, ctime_ns=10, mtime_ns=9, size=100, device=1)


@pytest.mark.parametrize("is_hashed", [True, False])
async def test_an_executable_that_is_renamed_or_removed(new_tree: NewTree, is_hashed: bool) -> None:
    """It keeps its path, in children too; the file as it was executed is named if that has a digest, else as it is."""
    tree, shell = new_tree(is_hashed=lambda file: is_hashed and file == RUNS.pack()), Life(10, 1, Life(1, 0))
    executed = shell.executes(b"bash")
    executed.exe_file = RUNS.pack()
    shell.file = RUNS._replace(ctime_ns=11).pack()
    child, forked = shell.forks(11, 2)
    child.file = shell.file
    named, ended = child.ends(), shell.ends()
    await told(tree, executed, forked, named, ended)
    assert [event.exe for event in (forked, named, ended)] == [b"/bin/bash"] * 3
    assert [event.exe_file for event in (forked, named, ended)] == [RUNS.pack() if is_hashed else shell.file] * 3


@pytest.mark.parametrize("change", [{"mtime_ns": 10}, {"size": 101}])
async def test_an_executable_that_is_rewritten(new_tree: NewTree, change: dict[str, int]) -> None:
    """Where the content may be another, it keeps its path, and its digest is asked for anew."""
    tree, shell = new_tree(is_hashed=lambda _file: True), Life(10, 1, Life(1, 0))
    executed = shell.executes(b"bash")
    executed.exe_file = RUNS.pack()
    shell.file = RUNS._replace(ctime_ns=11, **change).pack()
    ended = shell.ends()
    await told(tree, executed, ended)
    assert (ended.exe, ended.exe_file) == (b"/bin/bash", shell.file)


@pytest.mark.parametrize("change", [{"inode": 8}, {"device": 2}])
async def test_another_file_is_another_executable(new_tree: NewTree, change: dict[str, int]) -> None:
    """A file of another inode or device is not what was executed, whatever else is the same."""
    tree, shell = new_tree(is_hashed=lambda _file: True), Life(10, 1, Life(1, 0))
    executed = shell.executes(b"bash")
    executed.exe_file = RUNS.pack()
    shell.file = RUNS._replace(**change).pack()
    ended = shell.ends()
    await told(tree, executed, ended)
    assert (ended.exe, ended.exe_file) == (b"", shell.file)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["fork", "execute", "fail", "end"]), st.integers(0, 9), st.integers(2, 7)),
    max_size=60,
)


@given(ACTIONS, st.integers(1, 6), st.integers(1, 20))
async def test_any_history(new_tree: NewTree, actions: list[tuple[str, int, int]], depth: int, size: int) -> None:
    """Whatever processes fork, execute, end and reuse each other's pids, every event has its true line."""
    tree, init = new_tree(depth=depth), Life(1, 0, comm=b"init")
    alive, events, expected = {1: init}, [], []
    for clock, (action, who, pid) in enumerate(actions, 1):
        life = list(alive.values())[who % len(alive)]
        event: ProcessEvent
        match action:
            case "fork" if pid not in alive:
                alive[pid], event = life.forks(pid, clock)
            case "execute":
                event = life.executes(b"p%d" % clock)
            case "end" if life is not init:
                event = life.ends()
                del alive[life.pid]
            case _:
                event = life.fails_to_execute(b"x")
        events.append(event)
        expected.append(life.line(depth))
    lines: list[str] = []
    for start in range(0, len(events), size):
        lines += await told(tree, *events[start : start + size])
    assert lines == expected


async def test_memory_is_bounded(new_tree: NewTree) -> None:
    """200,000 short-lived processes leave no more behind than the bound; a living one keeps its line."""
    tree = new_tree(depth=8, max_processes=4096)
    init = Life(1, 0, comm=b"init")
    server, forked = init.forks(2, 1)
    await told(tree, forked, server.executes(b"server"))
    fork = made(Fork, tgid=2, pid=2, ppid=1, start_time=server.start_ns, comm=b"server")
    parent: dict[str, Any] = {"ppid": 2, "parent_start_time": server.start_ns, "comm": b"job"}
    execve, end = made(Execve, exe_path=b"/bin/job", **parent), made(Exit, **parent)
    blocks = []
    for number in range(200_000):
        pid, start = 10 + number % 30_000, 2 * SECOND + number * 20_000_000
        fork.body = struct.pack("<IIQ", pid, pid, start) + fork.body[16:]
        for event in (execve, end):
            event.tgid, event.start_time = pid, start
        await tree.enrich([fork, execve, end])
        assert fork.child_tgid == pid
        assert end.pid_tree == f"1(init)->2(server)->{pid}(job)"
        assert tree.statistics()["size"] <= 4096
        if number % 50_000 == 49_999:
            blocks.append(sys.getallocatedblocks())
    assert max(blocks) - blocks[0] < 5_000
    assert fork.pid_tree == "1(init)->2(server)"


@pytest.mark.parametrize("pids", [300, 100_000])
@pytest.mark.parametrize("kinds", [("fork",), ("execve",), ("fork", "execve")])
async def test_a_line_whose_ends_were_lost_is_bounded(new_tree: NewTree, pids: int, kinds: tuple[str, ...]) -> None:
    """Whether ids come again or the table is full, those before do not stay for their descendants' sake."""
    tree, at = new_tree(max_processes=1024), Life(1, 1)
    await told(tree, at.executes(b"init"))
    for number in range(5_000):
        child, forked = at.forks(2 + number % pids, 2 + number)
        events: list[ProcessEvent] = [forked] if "fork" in kinds else []
        if "execve" in kinds:
            events.append(child.executes(b"x"))
        await told(tree, *events)
        child.parent = Life(at.pid, at.start)
        at = child
    process, length = tree._table.by_tgid[at.pid], 0
    while process.parent is not None:
        process, length = process.parent, length + 1
    assert length < 1024 + 1024 // 32 + 2


async def test_a_chain_of_short_lived_parents_is_bounded(new_tree: NewTree) -> None:
    """A process that flees from pid to pid does not keep all its former lives in memory."""
    tree = new_tree(depth=4, max_processes=1024)
    life, blocks = Life(1, 0, comm=b"worm"), []
    for number in range(1, 40_000):
        child, forked = life.forks(2 + number % 30_000, number)
        await told(tree, forked, life.ends())
        child.parent = Life(life.pid, life.start)
        life = child
        if number % 10_000 == 9_999:
            blocks.append(sys.getallocatedblocks())
    assert tree.statistics()["size"] <= 1024
    assert max(blocks) - blocks[0] < 5_000
    assert (await told(tree, life.ends()))[0].startswith("...->")
