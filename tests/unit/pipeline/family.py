# SPDX-License-Identifier: GPL-2.0-or-later
"""Lives of processes, and the events that the kernel tells of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.enrich.process_tree import IS_BUILT, ProcessTree
from probes.event import ProcessEvent
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from tests.unit.pipeline.samples import SECOND, made

EXE_FILE = bytes(range(40))


@dataclass(eq=False)
class Life:
    """One life of one pid."""

    pid: int
    start: int
    """Seconds since boot; events have it to the nanosecond."""

    parent: Life | None = None
    comm: bytes = b"sh"
    file: bytes = EXE_FILE

    def _event(self, kind: type[ProcessEvent], **values: Any) -> Any:
        parent = self.parent
        return made(
            kind,
            pid=self.pid,
            tgid=self.pid,
            start_time=self.start_ns,
            ppid=parent.pid if parent else 0,
            parent_start_time=parent.start_ns if parent else 0,
            comm=self.comm,
            exe_file=self.file,
            **values,
        )

    @property
    def start_ns(self) -> int:
        return self.start * SECOND + 1

    def executes(self, name: bytes) -> Execve:
        """It becomes another program, which is told under its new name."""
        self.comm, self.file = name, name.ljust(40, b"\1")
        event: Execve = self._event(Execve, exe_path=b"/bin/" + name)
        return event

    def fails_to_execute(self, name: bytes) -> Execve:
        """It stays what it is."""
        event: Execve = self._event(Execve, filename=b"/bin/" + name, exe_path=b"/bin/" + self.comm, result=-2)
        return event

    def forks(self, pid: int, start: int) -> tuple[Life, Fork]:
        """It has a child."""
        child = Life(pid, start, self, self.comm, self.file)
        event: Fork = self._event(Fork, child_pid=pid, child_tgid=pid, child_start_time=child.start_ns)
        return child, event

    def ends(self) -> Exit:
        """It ends."""
        event: Exit = self._event(Exit)
        return event

    def line(self, depth: int = 1000) -> str:
        """What its pid_tree must be."""
        lives: list[Life] = []
        at: Life | None = self
        while at is not None:
            lives.insert(0, at)
            at = at.parent
        cut = lives[-depth:]
        names = [f"{each.pid}({each.comm.decode()})" for each in cut]
        return "->".join([*["..."] * (len(cut) < len(lives)), *names])


def new_tree(
    *,
    depth: int = 1000,
    max_processes: int = 10_000,
    ask_proc: bool = False,
    is_hashed: Callable[[bytes], bool] = lambda _file: False,
    in_c: bool = IS_BUILT,
) -> ProcessTree:
    """A tree that knows nobody."""
    return ProcessTree(depth=depth, max_processes=max_processes, ask_proc=ask_proc, is_hashed=is_hashed, in_c=in_c)


async def told(tree: ProcessTree, *events: ProcessEvent) -> list[str]:
    """The pid_tree of each event, in one batch."""
    await tree.enrich(list(events))
    return [event.pid_tree for event in events]
