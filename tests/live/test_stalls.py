# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that could hold up who looks at them, amid events that must not wait for them."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.deep import place
from tests.live.loads import load
from tests.live.test_executions import md5
from tests.live.test_hashing import copy, execution, made_fifo, made_loop, result, stopped
from tests.live.test_surroundings import held
from tests.live.tools import Tables, merged, run, until
from tests.ports import free_port

STAGES = ("decode", "enrich", "encode")

AS_BY_DEFAULT: Tables = {
    "collector": {"probes": ["execve", "exit", "fork", "connect", "create_file"]},
    "enrich.hashes": {"order_ms": 20, "wait_s": 2.0, "close_wait_s": 1.0},
}

MOST_S = 0.0502
"""50 ms, as the histogram's buckets have it."""

EVENTS = 6_000
"""At least, so that one list of them is less than the hundredth part: the one that was under way when the collector was
stopped is late."""

_BUCKET = re.compile(r'^hookline_stage_seconds_bucket\{le="([^"]+)",stage="(\w+)"\} (\S+)$', re.MULTILINE)

Buckets = Counter[tuple[str, float]]
"""Events by stage and the seconds within which it passed them on."""


def buckets(port: int) -> Buckets:
    """Since the start."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = _BUCKET.findall(answer.read().decode())
    return Counter({(stage, float(bound)): int(float(count)) for bound, stage, count in found})


def p99(counts: Buckets, stage: str) -> float:
    """Seconds within which the stage has passed on 99 of 100 events."""
    of_stage = sorted((bound, count) for (name, bound), count in counts.items() if name == stage)
    return next(bound for bound, count in of_stage if count >= 0.99 * of_stage[-1][1])


def has_told(collector: Collector, events: int) -> bool:
    """Whether so many are in its file; the metrics, which cost it time, are not asked for that."""
    return len(collector.read()) >= events


@contextmanager
def mount_that_dies(mount: Path, program: Path, programs: Programs) -> Iterator[Callable[[], None]]:
    """A file system whose one file is `program`; from when this is called, it answers nobody."""
    mount.mkdir()
    command = [programs("deadfs"), mount, program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        into, out = server.stdin, server.stdout
        assert into is not None
        assert out is not None
        assert out.read(1) == b"."

        def die() -> None:
            into.write(b"!")
            into.flush()
            assert out.read(1) == b"!"

        try:
            yield die
        finally:
            into.close()


def folder_of_3990_bytes(path: Path) -> Path:
    while len(os.fsencode(path)) < 3_700:
        path /= "d" * 200
    path /= "d" * (3_990 - len(os.fsencode(path)) - 1)
    path.mkdir(parents=True)
    return path


def test_no_stage_is_held_up(programs: Programs, tmp_path: Path) -> None:
    """Among other events a FIFO, a loop of links, 10 GB, 4,000 bytes of path and a dead mount hold up none of them.

    Each has its status, and 99 of 100 events are through each stage within 50 ms.
    """
    port = free_port()
    short_lists: Tables = {"collector": {"span_bytes": 16 << 10}, "metrics": {"listen": f"127.0.0.1:{port}"}}
    tables = merged(AS_BY_DEFAULT, short_lists)
    fifo, loop, sparse = (copy(programs, tmp_path / name, name.encode()) for name in ("fifo", "loop", "sparse"))
    os.truncate(sparse, 10 << 30)
    deep = folder_of_3990_bytes(tmp_path)
    here = os.open(deep, os.O_RDONLY)
    place(programs("nop"), here, b"a_program")
    os.close(here)
    with (
        ExitStack() as living,  # whose programs can end only when their mount has
        mount_that_dies(tmp_path / "mount", programs("hold"), programs) as die,
        Collector(tmp_path, tables) as collector,
    ):
        collector.sync()
        before = buckets(port)
        with stopped(collector):  # so that it finds each as it is then
            living.enter_context(held(tmp_path / "mount" / "file"))
            die()
            for path, swap in ((fifo, made_fifo), (loop, made_loop)):
                run(path)
                swap(path)
            run(sparse)
            run("./a_program", cwd=deep)
        # On a busy machine it takes more of them until what others held up is less than the hundredth part.
        late = dict.fromkeys(STAGES, 0.0)
        with load(programs, tmp_path, pause_us=3_000):
            for events in range(EVENTS, 4 * EVENTS, EVENTS // 4):
                until(partial(has_told, collector, events), f"{events} events")
                found = buckets(port) - before
                late = {stage: p99(found, stage) for stage in STAGES if p99(found, stage) > MOST_S}
                if not late:
                    break
        assert late == {}
        told = {path.name: result(execution(collector, path)) for path in (fifo, loop, sparse)}
        assert told == {"fifo": ("-1", "not_regular"), "loop": ("-1", "not_regular"), "sparse": ("-1", "too_big")}
        assert result(execution(collector, deep / "a_program")) == (md5(programs("nop")), "verified")
        assert result(execution(collector, tmp_path / "mount" / "file")) == ("-1", "timeout")
        collector.stop().check()


def has_had_children(pid: int) -> bool:
    """Whether it has waited for one that made page faults (``cminflt`` of proc_pid_stat(5)), as all do."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[8] != "0"


def test_what_runs_from_a_dead_mount(programs: Programs, tmp_path: Path) -> None:
    """What ran from a mount before the collector did is told by its path, though the mount is dead by then."""
    program = tmp_path / "mount" / "file"
    command: list[str | Path] = [program, "0", "20000", programs("nop"), "seeded"]
    with ExitStack() as living, mount_that_dies(program.parent, programs("spawn"), programs) as die:
        spawn = living.enter_context(subprocess.Popen(command))
        living.callback(spawn.kill)
        until(partial(has_had_children, spawn.pid), "the end of a child of it")
        die()
        with Collector(tmp_path, AS_BY_DEFAULT, schema="ecs") as collector:
            [*_, event] = collector.wait_for(lambda event: event["process"].get("args", [""])[-2:-1] == ["seeded"])
            assert event["process"]["parent"].items() >= {"pid": spawn.pid, "executable": str(program)}.items()
            collector.stop().check()
