# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of executions at once, and the very first one of a program."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from pathlib import Path

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import Tables, run, wait_all

SPAWNERS = 4
EACH = 2_500
AS_BY_DEFAULT: Tables = {"sinks.file": {"when_full": "drop"}, "pipeline": {"batch_age_ms": 200}}


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def entity(event: Event) -> tuple[int, int]:
    """Process id and start of the process of `event`: no two processes share these."""
    _boot, tgid, start = event["entity_id"].rsplit("-", 2)
    return int(tgid), int(start)


def test_ten_thousand_executions(programs: Programs, tmp_path: Path) -> None:
    """Of 10,000 executions by 4 concurrent processes each is told once, right, with its fork and its exit."""
    spawn, nop = programs("spawn"), programs("nop")
    with Collector(tmp_path, AS_BY_DEFAULT) as collector:
        spawners = [subprocess.Popen([spawn, str(EACH), "0", nop, f"spawner {number}"]) for number in range(SPAWNERS)]
        wait_all(spawners)
        outcome = collector.stop()
    by_kind: dict[str, list[Event]] = {"59": [], "60": [], "801": []}
    for event in outcome.events:
        by_kind.get(event["data_type"], []).append(event)

    parents = {str(spawner.pid): number for number, spawner in enumerate(spawners)}
    ran = [event for event in by_kind["59"] if event["ppid"] in parents]
    assert Counter((event["ppid"], event["argv"]) for event in ran) == Counter(
        (pid, f"{nop} spawner {number} {count} ") for pid, number in parents.items() for count in range(EACH)
    )
    for event in ran:
        assert event["exe"] == event["filename"] == str(nop)
        assert (event["exe_md5"], event["exe_hash_status"]) == (md5_of_nop := md5(nop), "verified"), md5_of_nop
        assert event["res"] == "0"
        assert event["pid_tree"].endswith(f"->{event['ppid']}(spawn)->{event['pid']}(nop)")

    forks = [event for event in by_kind["801"] if event["tgid"] in parents]
    forked = [(int(event["child_tgid"]), int(event["start_time"])) for event in forks]
    entities = {entity(event) for event in ran}
    assert len(entities) == SPAWNERS * EACH
    assert sorted(forked) == sorted(entities)
    ended = [event for event in by_kind["60"] if entity(event) in entities]
    assert sorted(map(entity, ended)) == sorted(entities)
    assert {(event["exit_code"], event["signal"], event["exe"]) for event in ended} == {("0", "0", str(nop))}
    assert outcome.kind("execve")["dropped_ring"] == 0
    outcome.check()


def test_the_first_execution_of_a_program(programs: Programs, tmp_path: Path) -> None:
    """The very first execution of each of 50 programs that nobody has seen before carries its MD5."""
    template = programs("nop").read_bytes()
    paths = [tmp_path / f"new{number}" for number in range(50)]
    with Collector(tmp_path) as collector:
        for number, path in enumerate(paths):
            path.write_bytes(template + bytes([number]))
            path.chmod(0o700)
            run(path)
        outcome = collector.stop()
    ran = {event["exe"]: event for event in outcome.events if event["data_type"] == "59"}
    for path in paths:
        assert (ran[str(path)]["exe_md5"], ran[str(path)]["exe_hash_status"]) == (md5(path), "verified")
    outcome.check()


def test_a_program_that_is_replaced_and_rewritten(programs: Programs, tmp_path: Path) -> None:
    """An MD5 is that of the file that ran, or "-1" with the reason: never that of what is there by now."""
    template = programs("nop").read_bytes()
    path = tmp_path / "program"
    with Collector(tmp_path) as collector:
        for number in range(100):
            content = template + number.to_bytes(4, "big")
            if number % 2 and path.exists():
                path.write_bytes(content)  # the same inode
            else:
                fresh = tmp_path / "fresh"
                fresh.write_bytes(content)
                fresh.chmod(0o700)
                fresh.replace(path)
            run(path, hashlib.md5(content, usedforsecurity=False).hexdigest())
        outcome = collector.stop()
    ran = [event for event in outcome.events if event["data_type"] == "59" and event["exe"] == str(path)]
    assert len(ran) == 100
    for event in ran:
        right = event["argv"].split()[1]
        told = (event["exe_md5"], event["exe_hash_status"])
        assert told == (right, "verified") or (told[0] == "-1" and told[1] in {"changed", "gone"}), event
    assert ran[-1]["exe_hash_status"] == "verified"
    outcome.check()
