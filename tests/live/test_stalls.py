# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that could hold up who looks at them, amid events that must not wait for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.tools import Tables, until

AS_BY_DEFAULT: Tables = {
    "collector": {"probes": ["execve", "exit", "fork", "connect", "create_file"]},
    "enrich.hashes": {"order_ms": 20, "wait_s": 2.0, "close_wait_s": 1.0},
}


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


def test_what_runs_from_a_dead_mount(programs: Programs, tmp_path: Path) -> None:
    """What ran from a mount before the collector did is told by its path, though the mount is dead by then."""
    program = tmp_path / "mount" / "file"
    command: list[str | Path] = [program, "0", "20000", programs("nop"), "seeded"]
    with ExitStack() as living, mount_that_dies(program.parent, programs("spawn"), programs) as die:
        spawn = living.enter_context(subprocess.Popen(command))
        living.callback(spawn.kill)
        until(lambda: Path(f"/proc/{spawn.pid}/task/{spawn.pid}/children").read_text() or None, "a child of it")
        die()
        with Collector(tmp_path, AS_BY_DEFAULT, schema="ecs") as collector:
            [*_, event] = collector.wait_for(lambda event: event["process"].get("args", [""])[-2:-1] == ["seeded"])
            assert event["process"]["parent"].items() >= {"pid": spawn.pid, "executable": str(program)}.items()
            collector.stop().check()
