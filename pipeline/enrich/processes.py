# SPDX-License-Identifier: GPL-2.0-or-later
"""The processes that are known, each with its parent.

A process is its pid and its start time, so that a reused pid is another
process. Ended processes stay for a while: their children's events need them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from pipeline.enrich.proc import TICK_NS
from probes.decoder import origin_reader
from probes.event import ProcessEvent
from probes.identity import NO_FILE
from probes.process.fork import Fork
from probes.slots import plain_assignment
from probes.text import Remembered

# Several fields of one piece at once cost less than a property each.
_origin, read_origin = origin_reader()
PPID, PARENT_START = _origin.index("ppid"), _origin.index("parent_start_time")
"""Places in what `read_origin` gives."""

_ENDED_SHARE = 32
"""One of so many places in the table is for processes that have ended."""


@plain_assignment
class Process(msgspec.Struct, gc=False):
    """One life of one pid. References lead to parents alone, so that no cycle arises."""

    tgid: int
    start: int
    """ns since boot"""

    parent: Process | None
    comm: bytes
    exe: bytes
    exe_file: bytes
    """Identity of the executable, see `probes.identity.FileId`."""

    line: str = ""
    """Its `pid_tree`, as far as `epoch` is the tree's."""

    line_length: int = 0
    """Processes in `line`."""

    epoch: int = -1
    has_children: bool = False
    has_ended: bool = False
    asked: bool = False
    """Its line was made once; most processes are asked no more, and keep none."""

    as_parent: str = ""
    """What events of its children say of it; empty: not made yet."""


class Processes:
    """At most `most` of them."""

    def __init__(self, most: int) -> None:
        self.by_tgid: dict[int, Process] = {}
        self.by_origin: dict[bytes, Process] = {}
        """The parent as the kernel told it: another than made the process, where that one has ended."""

        self._evictions = 0
        self._most = most
        self._ended: deque[Process] = deque()

    def known(self, tgid: int, start: int) -> Process | None:
        """The process of that pid, if it began then (ns since boot)."""
        process = self.by_tgid.get(tgid)
        return process if process is None or began(process, start) else None

    def parent_of(self, event: ProcessEvent) -> Process | None:
        """What the kernel told as the parent of the process of `event`; None: it is not known."""
        known = self.by_origin.get(event.origin)
        if known is not None:
            return known
        origin = read_origin(event.origin)
        parent = self.known(origin[PPID], origin[PARENT_START])
        if parent is not None:
            if len(self.by_origin) >= Remembered.most:
                self.by_origin.clear()
            self.by_origin[event.origin] = parent
        return parent

    def add(self, process: Process) -> Process:
        """Take in `process`, which is also given back; for it another may have to go."""
        processes, parent = self.by_tgid, process.parent
        before = processes.get(process.tgid)
        processes[process.tgid] = process
        if parent is not None:
            parent.has_children = True
        if before is not None:
            self.exited(before)  # whatever became of the event that would have said so
        if len(processes) > self._most:
            self._forget()
        return process

    def forked(self, parent: Process, event: Fork) -> None:
        """Take in the child."""
        present = self.by_tgid.get(event.child_tgid)
        if present is not None and present.start == event.child_start_time // TICK_NS * TICK_NS:
            present.start, present.parent, present.epoch = event.child_start_time, parent, -1
            parent.has_children = True
            return
        self.add(Process(event.child_tgid, event.child_start_time, parent, event.comm, parent.exe, parent.exe_file))

    def exited(self, process: Process) -> None:
        """It has ended."""
        if process.has_ended:
            return
        process.has_ended = True
        self._ended.append(process)
        # A fork storm must neither fill the memory nor push out the living.
        while len(self._ended) > self._most // _ENDED_SHARE:
            self._forget()

    def seed(self, found: Mapping[int, tuple[int, int, bytes]]) -> None:
        """Take in the processes that live: by pid the parent's pid, the start (ns since boot) and the name."""
        for tgid in found:
            self._seed_one(tgid, found)

    def _seed_one(self, tgid: int, found: Mapping[int, tuple[int, int, bytes]]) -> None:
        line: list[int] = []
        at = tgid
        while at in found and at not in self.by_tgid and at not in line:
            line.append(at)
            at = found[at][0]
        for each in reversed(line):
            ppid, start, comm = found[each]
            self.add(Process(each, start, self.by_tgid.get(ppid), comm, b"", NO_FILE))

    def _forget(self) -> None:
        """Drop the process that ended first, or, of a table of living ones, the oldest entry."""
        self._evictions += 1
        if not self._ended:
            self.by_origin.clear()  # who lives on is met again, and has other names then
        process = self._ended.popleft() if self._ended else next(iter(self.by_tgid.values()))
        if self.by_tgid.get(process.tgid) is process:
            del self.by_tgid[process.tgid]
        process.has_ended = True  # one that lives is met again as another: its line must be cut short like the dead's
        # Descendants hold on to the dead: without a short cut to the living, to all their line.
        while process.parent is not None and process.parent.has_ended:
            process.parent = process.parent.parent

    def statistics(self) -> Mapping[str, int]:
        """Processes that are known, those of them that have ended, and how often one had to go."""
        return {"size": len(self.by_tgid), "ended": len(self._ended), "evictions": self._evictions}


def began(process: Process, start: int) -> bool:
    """Whether it is the life that began then; one that /proc told of, by ticks, has that time from now on."""
    if process.start == start // TICK_NS * TICK_NS:
        process.start = start
    return process.start == start
