# SPDX-License-Identifier: GPL-2.0-or-later
"""What enriches in C by itself: what it refuses, that it leaks nothing, and what is left to Python."""

from __future__ import annotations

import gc
import sys
from typing import Any

import msgspec
import pytest

from pipeline.enrich import process_tree
from pipeline.enrich.assignment import assignment
from pipeline.enrich.proc import TICK_NS
from pipeline.enrich.process_tree import ProcessTree
from pipeline.enrich.processes import Process
from probes.event import ProcessEvent
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from tests.unit.pipeline.family import Life, new_tree
from tests.unit.pipeline.samples import made

native = pytest.importorskip("pipeline.enrich.native", reason="no enrichment in C was built")

FRESH: Any = Process.__struct_defaults__
BODIES: Any = {}
SOUND: Any = (ProcessEvent, Execve, Process, FRESH, (Fork, Exit), BODIES, (6, 0), 12, 100, TICK_NS)


def with_one(at: int, value: Any) -> Any:
    return (*SOUND[:at], value, *SOUND[at + 1 :])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (with_one(0, Exit), ValueError),
        (with_one(2, msgspec.defstruct("Other", ["tgid"], gc=False)), AttributeError),
        (with_one(2, type("Plain", (), {})), (TypeError, ValueError)),
        (with_one(3, FRESH[:-1]), ValueError),
        (with_one(6, (-1, 0)), ValueError),
        (with_one(9, 0), ValueError),
        (with_one(1, msgspec.defstruct("Other", ["tgid"], gc=False)), ValueError),
        (with_one(4, None), TypeError),
    ],
)
def test_classes_that_cannot_be_tracked(arguments: Any, error: Any) -> None:
    """A tracker knows where its fields lie before it sees the first event."""
    with pytest.raises(error):
        native.Tracker(*arguments)


@pytest.mark.parametrize("values", [(1,), [None], ({7: 1}, {}), ({}, {bytes(144): 1})])
def test_strangers_in_the_table(values: Any) -> None:
    """What is no process of the class is an error, not memory that is read as if it were."""
    tracker = native.Tracker(*SOUND)
    event = made(Execve, tgid=7)
    processes, parents = values if len(values) == 2 else (values[0], {})
    if parents:
        parents = {event.origin: 1}
    with pytest.raises(TypeError):
        tracker.track([event], 0, processes, parents, {}, 0, repr, repr, None)


@pytest.mark.parametrize("stranger", [None, 5, object(), Process(1, 2, None, b"", b"", b"")])
def test_strangers_among_events(stranger: Any) -> None:
    """Neither a tracker nor an assignment takes what is no event of a process."""
    with pytest.raises(TypeError):
        native.Tracker(*SOUND).track([stranger], 0, {}, {}, {}, 0, repr, repr, None)
    with pytest.raises(TypeError):
        assignment("origin", "user")([stranger], {})


def test_what_is_not_usual_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks and ends are left to Python, and so is who is met without a known parent; executions are not."""
    left = []
    take = ProcessTree._take

    def noting(tree: ProcessTree, event: ProcessEvent, tell_parent: Any) -> None:
        left.append(type(event))
        take(tree, event, tell_parent)

    monkeypatch.setattr(process_tree.ProcessTree, "_take", noting)
    tree, init = new_tree(), Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    met = Life(11, 2, init)
    events = [forked, shell.executes(b"bash"), shell.fails_to_execute(b"x"), met.executes(b"a"), shell.ends()]
    events += [Life(11, 3, init).executes(b"b"), Life(11, TICK_NS + 1, init).executes(b"c")]
    with pytest.raises(StopIteration):
        tree.enrich(events).send(None)
    assert left == [Fork, Exit]


def test_an_errors_way_out() -> None:
    """What fails in a function of Python's ends the call, and the events keep what they had."""
    tree, event = new_tree(), Life(11, 2, Life(1, 0)).executes(b"a")
    with pytest.raises(ZeroDivisionError):
        native.Tracker(*with_one(5, lambda _body: 1 // 0)).track(
            [event], 0, {}, {event.origin: Process(1, 1, None, b"", b"", b"")}, {}, 0, repr, tree._line, None
        )
    assert event.pid_tree == "-1"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("ppid", ("user",), None), TypeError),
        (("origin", ("subject",), None), TypeError),
        (("origin", ("user",), "ppid"), TypeError),
        (("origin", (), None), ValueError),
        (("origin", ("user",) * 5, None), ValueError),
        (("origin", "user", None), TypeError),
    ],
)
def test_assignments_of_other_fields(arguments: Any, error: type[Exception]) -> None:
    """Only what instances hold can be a key, a field or an exemption."""
    with pytest.raises(error):
        native.Assignment(ProcessEvent, *arguments)


@pytest.mark.parametrize("in_c", [False, True])
def test_assignments(in_c: bool) -> None:
    """Both forms give each event what its key has, leave the exempt alone, and give back the rest."""
    events: list[Any] = [made(Exit, comm=name, container=box) for name, box in ((b"a", ""), (b"b", ""), (b"a", "x"))]
    one = assignment("comm", "user", unless="container", in_c=in_c)
    assert one(events, {events[0].comm: "root"}) == [events[1]]
    assert [event.user for event in events] == ["root", "-1", "-1"]
    two = assignment("comm", "exe_md5", "exe_hash_status", in_c=in_c)
    assert two(events, {events[1].comm: ("1", "2")}) == [events[0], events[2]]
    assert (events[1].exe_md5, events[1].exe_hash_status) == ("1", "2")
    with pytest.raises((TypeError, ValueError)):
        two(events, {events[1].comm: ("1",)})


def test_nothing_leaks() -> None:
    """100,000 events leave no object behind: known processes, new ones, and errors."""
    init = Life(1, 0, comm=b"init")
    shell, forked = init.forks(10, 1)
    events: list[Any] = [forked, shell.executes(b"bash"), *(Life(11 + at, 2, init).executes(b"a") for at in range(97))]
    broken = native.Tracker(*with_one(5, {event.body: () for event in events}))
    assign = assignment("origin", "user", "exe_md5")

    def turn() -> None:
        tree = new_tree()
        with pytest.raises(StopIteration):
            tree.enrich(events).send(None)
        assert tree.statistics()["misses"] >= 97
        with pytest.raises(TypeError):
            broken.track(events[2:], 0, {}, tree._table.by_origin, {}, 0, repr, tree._line, None)
        assign(events, {events[0].origin: ("x", "y")})

    for _ in range(10):
        turn()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        turn()
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
