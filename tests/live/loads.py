# SPDX-License-Identifier: GPL-2.0-or-later
"""Work for the collector, to an end or as long as a context lasts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.conftest import Programs
from tests.live.tools import wait_all


def flood(programs: Programs, folder: Path, *, executions: int, files: int, connections: int) -> None:
    """Executions, files and connections at the same time, to the end."""
    commands = (
        ["spawn", str(executions), "0", str(programs("nop")), "flood"],
        ["churn", str(files), "0", str(folder / "churned")],
        ["connect", str(connections), "0"],
    )
    wait_all(
        [subprocess.Popen([programs(name), *arguments], stdout=subprocess.DEVNULL) for name, *arguments in commands]
    )


@contextmanager
def load(programs: Programs, folder: Path, *, pause_us: int = 1_000) -> Iterator[None]:
    """Executions, files and connections as long as the context lasts: of each one, then a pause."""
    pause = str(pause_us)
    commands = (
        ["spawn", "0", pause, str(programs("nop")), "load"],
        ["churn", "0", pause, str(folder / "loaded")],
        ["connect", "0", pause],
    )
    processes = [subprocess.Popen([programs(name), *arguments]) for name, *arguments in commands]
    try:
        yield
        assert [process.poll() for process in processes] == [None] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
