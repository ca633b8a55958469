# SPDX-License-Identifier: GPL-2.0-or-later
"""A server's processes: started as an unprivileged user, asked whether they answer, ended, frozen, killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

_START_S = 180.0
_STOP_S = 30.0
_LOOK_S = 0.1
NOBODY = 65_534

_STARTER = ThreadPoolExecutor(1)
"""Lives as long as this process: a tied server ends with the thread that started it (PR_SET_PDEATHSIG)."""


class NotStarted(Exception):
    """A server does not answer; says where its log is and how it ends."""


@dataclass
class Server:
    """One server. The folder holds what it writes, its ``log`` and the number of its process group."""

    name: str
    folder: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    answers: Callable[[], bool]
    """Whether it is ready. False, or OSError, while it is not."""

    tied: bool = True
    """Whether it ends with the process that started it."""

    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        """What the server said, over all its starts."""
        return self.folder / "log"

    def start(self) -> None:
        """Start, and return once it answers.

        Raises:
            NotStarted: it ended or does not answer.
        """
        lead = ["setpriv", *(["--pdeathsig", "TERM"] if self.tied else [])]
        if os.geteuid() == 0:
            lead += [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environment}
        with self.log.open("ab") as log:
            self._child = _STARTER.submit(
                subprocess.Popen,
                [*lead, *self.command],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the group is what is signalled: Elasticsearch's launcher has a child
            ).result()
        self._pid_file.write_text(f"{self._child.pid} {started_at(self._child.pid)}")
        self.wait()
        if not self.tied:
            self._child.returncode = 0  # it outlives us, and is none of ours any more

    def wait(self) -> None:
        """Return once it answers. Raises NotStarted."""
        deadline = time.monotonic() + _START_S
        while not self.is_ready():
            if not self.is_running() or time.monotonic() > deadline:
                end = self.log.read_text(errors="replace").splitlines()[-5:] if self.log.exists() else []
                raise NotStarted(f"{self.name} does not answer; {self.log} ends with: " + " | ".join(end))
            time.sleep(_LOOK_S)

    def is_ready(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def is_running(self) -> bool:
        return self._group() is not None

    def stop(self) -> None:
        """End it in order, or by force where it does not end."""
        if self.signal(signal.SIGTERM) and not self._gone(_STOP_S):
            self.kill()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.signal(signal.SIGKILL)
        assert self._gone(_STOP_S), f"{self.name} outlives SIGKILL"

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> bool:
        """Signal all its processes; False: there is none."""
        group = self._group()
        if group is not None:
            os.killpg(group, number)
        return group is not None

    def remove(self) -> None:
        """Delete what it wrote."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid"

    def _group(self) -> int | None:
        try:
            pid, started = map(int, self._pid_file.read_text().split())
        except FileNotFoundError:
            return None
        if started_at(pid) == started:
            return pid
        # The leader is gone; its session, whose number nobody else gets meanwhile, may not be.
        return pid if any(_session(entry) == pid for entry in os.listdir("/proc") if entry.isdigit()) else None

    def _gone(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while self._group() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        if self._child is not None:
            self._child.wait()
        return True


def _stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat from the third, its state, on; empty: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since boot; None: there is none, or but a zombie."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def _session(pid: str) -> int | None:
    fields = _stat(pid)
    return int(fields[3]) if fields and fields[0] != "Z" else None


def give_away(folder: Path) -> None:
    """Make `folder` the server's own."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
