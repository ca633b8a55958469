# SPDX-License-Identifier: GPL-2.0-or-later
"""The real system calls that drive each hook: ``programs/actions.c``."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import ConfigError

SOURCE = Path(__file__).with_name("programs") / "actions.c"
_PATIENCE_S = 120.0
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - folders of ours are made in it


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a program does."""

    name: str
    count: int
    """How often in one pass."""

    title: str
    program: str = ""
    """Its name in actions.c, if another."""

    in_memory: bool = False
    """Whether its files lie on tmpfs instead of the disk."""


ACTIONS = (
    Action("getppid", 200_000, "getppid(2): nothing hooks it"),
    Action("execve", 300, "execution, 3 arguments"),
    Action("execve_large", 100, "execution, 100 arguments"),
    Action("execve_deep", 200, "execution, 40 folders deep"),
    Action("execve_failed", 2000, "execution of nothing"),
    Action("fork", 500, "fork(2), exit and wait"),
    Action("connect", 1000, "TCP connection, IPv4"),
    Action("connect6", 1000, "TCP connection, IPv6"),
    Action("connect_udp", 2000, "connect(2) of a UDP socket"),
    Action("bind", 2000, "bind(2) of a TCP socket"),
    Action("dns", 2000, "DNS question and answer"),
    Action("read", 20_000, "read(2) and pread(2)"),
    Action("open", 20_000, "open(2), nothing created"),
    Action("create_file", 1000, "new file on disk, unlink"),
    Action("create_tmpfs", 1000, "new file on tmpfs, unlink", program="create_file", in_memory=True),
    Action("rename", 1000, "rename(2)"),
    Action("link", 1000, "link(2) and unlink(2)"),
    Action("rmdir", 200, "mkdir(2) and rmdir(2)"),
    Action("ptrace", 1000, "3 calls of ptrace(2), wait"),
    Action("mprotect", 2000, "mprotect(2) to executable"),
    Action("kill", 2000, "kill(2), signal ignored"),
    Action("tkill", 2000, "tkill(2), signal ignored"),
    Action("setsid", 2000, "setsid(2), refused"),
    Action("prctl", 2000, "prctl(2), a thread's name"),
    Action("memfd_create", 2000, "memfd_create(2) and close"),
    Action("mount", 100, "mount(2) and umount(2)"),
    Action("setuid", 2000, "setresuid(2), no change"),
    Action("bpf", 1000, "bpf(2), a map of one entry"),
)


class Actions:
    """The compiled program with its folders."""

    def __init__(self, program: Path, on_disk: Path, in_memory: Path) -> None:
        self._program = program
        self._folders = {False: on_disk, True: in_memory}

    def run(self, action: Action, share: float = 1.0) -> list[float]:
        """Do this share of its count; gives the mean ns of one, for each tenth of them.

        Raises ConfigError: it failed.
        """
        return self._run(action, max(10, int(action.count * share)))

    def paced(self, action: Action, rate: int, seconds: float, tick: Callable[[], None]) -> float:
        """Do it so often a second by a timetable, whoever is slow (open loop); gives how often it was.

        `tick` is called once a second. Raises ConfigError: it failed.
        """
        means = self._run(action, max(10, int(rate * seconds)), str(rate), seconds=seconds, tick=tick)
        return 1e9 / statistics.fmean(means)

    def _run(
        self, action: Action, count: int, *more: str, seconds: float = 0, tick: Callable[[], None] = lambda: None
    ) -> list[float]:
        # A shell between: what the collector's own children do is left out by its filters.
        command = [
            *("/bin/sh", "-c", '"$0" "$@"; exit $?'),
            str(self._program),
            action.program or action.name,
            str(count),
            str(self._folders[action.in_memory]),
            *more,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            for _second in range(int(seconds + _PATIENCE_S)):
                with suppress(subprocess.TimeoutExpired):
                    said, trouble = process.communicate(timeout=1)
                    break
                tick()
            else:
                process.kill()
                raise ConfigError(f"the action {action.name} did not end")
        if process.returncode:
            raise ConfigError(f"the action {action.name} cannot be done here: {trouble.strip()}")
        return [float(line) for line in said.split()]


def compiler() -> str:
    """The C compiler. Raises ConfigError: there is none."""
    found = shutil.which("gcc") or shutil.which("cc")
    if not found:
        raise ConfigError("there is no C compiler: apt-get install gcc libc6-dev")
    return found


def compiled(folder: Path) -> Path:
    """The program, compiled into `folder`. Raises ConfigError: there is no C compiler."""
    program = folder / "actions"
    subprocess.run([compiler(), "-O2", "-o", program, SOURCE], check=True)
    return program


@contextmanager
def actions(disk: Path | None = None) -> Iterator[Actions]:
    """Compile them; `disk` is a folder on the file system for files that are on no tmpfs.

    Raises:
        ConfigError: there is no C compiler.
    """
    with ExitStack() as folders:
        place = Path(folders.enter_context(tempfile.TemporaryDirectory(dir=disk or "/var/tmp")))  # noqa: S108
        memory = folders.enter_context(
            tempfile.TemporaryDirectory(dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None)
        )
        program = compiled(place)
        files = place / "files"
        files.mkdir()
        yield Actions(program, files, Path(memory))
