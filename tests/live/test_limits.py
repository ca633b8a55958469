# SPDX-License-Identifier: GPL-2.0-or-later
"""The smallest configuration, the largest event, two collectors, some probes only."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.deep import components, deep_folder, place
from tests.live.loads import flood
from tests.live.test_executions import md5
from tests.live.tools import until
from tests.live.views import EXECVE, caused_by, truncated

SMALLEST = {
    "collector": {"ring_bytes": 65_536, "wakeup_bytes": 1_024, "poll_interval_ms": 1, "span_bytes": 4_096},
    "pipeline": {"queue_batches": 1, "batch_events": 1, "batch_age_ms": 1},
    "enrich.hashes": {"cache_entries": 1, "workers": 1},
    "enrich.process_tree": {"depth": 1, "max_processes": 1_024},
    "sinks.file": {"queue_batches": 1},
}


def execute_the_largest(nop: Path, folder: Path) -> int:
    """An execution with paths and arguments as long as they may be; gives its process id."""
    with deep_folder(folder, components(folder, 4080, b"\xff\n" * 100)) as (here, path):
        place(nop, here, b"largest")
        with open(os.open(b"largest", os.O_RDONLY, dir_fd=here), "rb") as file:
            process = subprocess.Popen(
                [path + b"/largest", b"x" * 100_000],
                stdin=file,
                stdout=file,
                cwd=f"/proc/self/fd/{here}",
                env={b"LD_PRELOAD": b"x" * 490, b"SSH_CONNECTION": b"y" * 480},
            )
            with process:
                assert process.wait() == 0
    return process.pid


def test_the_smallest_of_everything(programs: Programs, tmp_path: Path) -> None:
    """With every bound at its least the ledger closes, and the largest event there is comes through whole."""
    with Collector(tmp_path, SMALLEST) as collector:
        flood(programs, tmp_path, executions=200, files=200, connections=200)
        collector.sync()

        def largest() -> Event | None:
            # Again where another process's events were in the ring, which then has no room for this one.
            pid = execute_the_largest(programs("nop"), tmp_path)
            ran = caused_by(collector.sync(), pid, EXECVE)
            return ran[0] if ran else None

        event = until(largest, "the largest event")
        collector.stop().check()
    assert truncated(event) == {"argv"}
    assert len(event["argv"]) == 32_768
    assert (event["LD_PRELOAD"], event["SSH_CONNECTION"]) == ("x" * 490, "y" * 480)
    assert event["exe"] == event["stdin"] == event["stdout"] == event["filename"]
    assert event["exe"].startswith(event["run_path"])


def test_two_collectors(programs: Programs, tmp_path: Path) -> None:
    """Two collectors at the same time each tell everything, and each leaves out itself only."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with Collector(folders[0]) as first, Collector(folders[1]) as second:
        with subprocess.Popen([programs("spawn"), "500", "0", programs("nop"), "both"]) as spawner:
            assert spawner.wait() == 0
        outcomes = [collector.stop() for collector in (first, second)]
    for outcome, own in zip(outcomes, (first, second), strict=True):
        ran = [event for event in outcome.events if event.get("ppid") == str(spawner.pid)]
        assert sum(event["data_type"] == "59" for event in ran) == 500
        assert str(own.pid) not in {event.get("tgid") for event in outcome.events}
        outcome.check()
    assert str(second.output) in {event.get("file_path") for event in outcomes[0].events}


def test_one_probe(programs: Programs, tmp_path: Path) -> None:
    """With --probe connect only connections are told, of a process that lives with executable, MD5 and tree."""
    with Collector(tmp_path, None, "--probe", "connect") as collector:
        flood(programs, tmp_path, executions=50, files=50, connections=50)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", 9))
        [event] = collector.wait_for(lambda event: event["tgid"] == str(os.getpid()))
        outcome = collector.stop()
    assert {event["data_type"] for event in outcome.events} == {"42"}
    assert sum(event["comm"] == "connect" for event in outcome.events) == 50
    exe = Path(os.readlink("/proc/self/exe"))
    assert (event["exe"], event["exe_md5"]) == (str(exe), md5(exe))
    assert f"->{os.getpid()}(" in event["pid_tree"]
    outcome.check()


def test_what_is_told_of_a_process(programs: Programs, collector: Collector) -> None:
    """Ids of process, parent, group, session and user, and the time, are those of the process."""
    before = time.time_ns() // 1_000_000
    with subprocess.Popen(
        [programs("hold")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        group, session = os.getpgid(process.pid), os.getsid(process.pid)
        after = time.time_ns() // 1_000_000
    [ran] = caused_by(collector.sync(), process.pid, EXECVE)
    expected = {"pid": process.pid, "ppid": os.getpid(), "pgid": group, "sid": session, "uid": os.getuid()}
    assert {key: int(ran[key]) for key in expected} == expected
    assert before <= int(ran["time"]) <= after
    assert (ran["comm"], ran["user"], ran["nodename"]) == ("hold", "root", os.uname().nodename)


def test_an_event_is_told_soon(tmp_path: Path) -> None:
    """On a quiet host an event is in the file within half a second, with the intervals of the defaults."""
    with Collector(tmp_path, {"pipeline": {"batch_age_ms": 200}}) as collector:
        took = []
        for _ in range(3):
            start = time.monotonic()
            collector.sync()
            took.append(time.monotonic() - start)
        collector.stop().check()
    assert min(took) < 0.5, took
