# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of bpf(2), each field against what /proc says of the caller and of its objects."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import SOURCES
from tests.live.tools import LIMIT_S

BPF = 806
NAME = "hostile_name.15"
NOTHING = {"map_type": "-1", "prog_type": "-1", "object_id": "0", "object_name": "-1", "from_caller": "0"}


class Calls(NamedTuple):
    """What another process did, what it said of it, and what was told."""

    parent: int
    said: dict[str, Any]
    events: dict[int, Event]
    """By the order of the calls."""

    def told(self, number: int, *names: str) -> list[str]:
        return [self.events[number][name] for name in names]


@pytest.fixture(scope="module")
def calls(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Calls:
    """The calls of bpf_calls.py in a pid namespace of its own; again where the kernel says that it skipped a program.

    It does so where it can be preempted: bpf(2) is what the collector itself calls most.
    """
    skipped = collector.skipped_by_kernel()
    found = calls_once(collector, str(tmp_path_factory.mktemp("calls")))
    for _again in range(2):
        if len(found.events) == len(found.said["results"]) or collector.skipped_by_kernel() == skipped:
            break
        found = calls_once(collector, str(tmp_path_factory.mktemp("calls")))
    return found


def calls_once(collector: Collector, folder: str) -> Calls:
    command = ["unshare", "--pid", "--fork", sys.executable, str(SOURCES / "bpf_calls.py"), folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said = json.loads(process.communicate(timeout=LIMIT_S)[0])
        assert process.returncode == 0
    events = [event for event in collector.sync() if event["data_type"] == str(BPF)]
    mine = [event for event in events if event["tgid"] == said["ns_pids"][0]]
    return Calls(process.pid, said, dict(enumerate(mine)))


@pytest.mark.guest("bpf")
def test_each_call_is_told_once(calls: Calls) -> None:
    """Seven calls are seven events, with their results: what was made, what failed, and a command that is none."""
    results = [str(result) for result in calls.said["results"]]
    assert [event["res"] for event in calls.events.values()] == results
    assert [event["cmd"] for event in calls.events.values()] == ["0", "5", "5", "0", "2", "2", "4096"]
    assert calls.told(0, "cmd_name") == ["BPF_MAP_CREATE"]
    assert calls.told(6, "cmd_name", "res") == ["-1", str(-errno.EINVAL)]


@pytest.mark.guest("bpf")
def test_what_was_made(calls: Calls) -> None:
    """A new map and a new program are told by the kernel's own name, type and id, which are those of /proc."""
    the_map, program = calls.said["map"], calls.said["program"]
    about = ("map_type", "prog_type", "object_id", "object_name", "from_caller")
    assert calls.told(0, *about) == [the_map["map_type"], "-1", the_map["map_id"], NAME, "0"]
    assert calls.told(1, *about) == ["-1", program["prog_type"], program["prog_id"], "loaded_prog", "0"]
    assert calls.told(0, "map_type_name", "prog_type_name") == ["hash", "-1"]
    assert calls.told(1, "map_type_name", "prog_type_name") == ["-1", "socket_filter"]


def test_what_was_refused(calls: Calls) -> None:
    """A refused program or map is told by what the caller asked for, and said to be."""
    about = ("map_type", "prog_type", "object_id", "object_name", "from_caller")
    assert calls.told(2, *about) == ["-1", "1", "0", "refused_prog", "1"]
    assert calls.told(3, *about, "map_type_name") == ["9999", "-1", "0", "refused_map", "1", "-1"]


def test_a_map_is_used(calls: Calls) -> None:
    """A command on a map's descriptor tells that map; a file of the caller's that is only called so tells nothing."""
    the_map = calls.said["map"]
    assert calls.told(4, "map_type", "object_id", "object_name") == [the_map["map_type"], the_map["map_id"], NAME]
    assert {name: calls.events[5][name] for name in NOTHING} == NOTHING
    assert int(calls.events[5]["res"]) < 0


@pytest.mark.guest("bpf")
def test_the_caller_and_its_ancestors(calls: Calls) -> None:
    """The caller, its parent and grandparent are told with their ids here and in their pid namespaces."""
    pid, ns_pid = calls.said["ns_pids"]
    parent, here = str(calls.parent), str(os.getpid())
    comm = Path("/proc/self/comm").read_text().strip()
    for event in calls.events.values():
        assert (event["tgid"], event["pid"], event["ns_thread_id"]) == (pid, pid, ns_pid)
        assert [event[f"parent_{name}"] for name in ("thread_id", "ns_thread_id", "ns_pid", "comm")] == [
            *[parent] * 3,
            "unshare",
        ]
        assert event["ppid"] == parent
        told = [event[f"grandparent_{name}"] for name in ("pid", "thread_id", "ns_thread_id", "ns_pid", "comm")]
        assert told == [*[here] * 4, comm]
        assert (event["egid"], event["uts_inum"]) == (calls.said["egid"], str(calls.said["uts"]))
        assert event["cmdline"].startswith(f"{sys.executable} {SOURCES / 'bpf_calls.py'} ")


@pytest.mark.guest("bpf", silent=True)
def test_the_collector_is_not_told(collector: Collector) -> None:
    """The collector, which updates its maps at a reload, and its loader are not told."""
    collector.reload({"filters": {"uid": [54_321]}})
    events = [event for event in collector.sync() if event["data_type"] == str(BPF)]
    assert not [event for event in events if str(collector.pid) in {event["tgid"], event["ppid"]}]
