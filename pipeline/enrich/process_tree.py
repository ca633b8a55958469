# SPDX-License-Identifier: GPL-2.0-or-later
"""Who descends from whom, and which executable each process runs.

Fork, execve and exit events keep the table; /proc fills it once at the start.
A process is its pid and its start time, so that a reused pid is another
process. Ended processes stay for a while: their children's events need them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from pipeline.enrich.proc import TICK_NS, executable, living, stat_of
from probes.decoder import body_reader, origin_reader
from probes.event import ProcessEvent
from probes.identity import NO_FILE, FileId
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from probes.slots import plain_assignment
from probes.text import Remembered, cstring_text

try:
    from pipeline.enrich import native
except ImportError:  # there was no C compiler
    native = None  # type: ignore[assignment]

IS_BUILT = native is not None
"""Whether the usual turns are taken in C."""

# Several fields of one piece at once cost less than a property each.
_origin, _read_origin = origin_reader()
_PPID, _PARENT_START = _origin.index("ppid"), _origin.index("parent_start_time")
_execution, _read_execution = body_reader(Execve)
_EXE_PATH, _RESULT = _execution.index("exe_path"), _execution.index("result")

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


class ProcessTree:
    """At most `max_processes` processes, and lines of at most `depth` of them."""

    def __init__(
        self,
        *,
        depth: int,
        max_processes: int,
        ask_proc: bool,
        tells_parents: Callable[[], bool] = lambda: True,
        in_c: bool = IS_BUILT,
    ) -> None:
        """`tells_parents`: whether anybody wants to know `parent`; `in_c`: whether to take the usual turns in C."""
        self._depth = depth
        self._tells_parents = tells_parents
        self._ask_proc = ask_proc
        """Whether /proc is of the host that the events are of."""
        self._max = max_processes
        self._processes: dict[int, Process] = {}
        self._ended: deque[Process] = deque()
        self._epoch = 0
        """Changes when a process that has children changes its name: their lines name it."""
        self._seen = self._unknown = self._evictions = 0
        self._names = Remembered(cstring_text)
        self._parents = Remembered(_parent_piece)
        self._by_origin: dict[bytes, Process] = {}
        """The parent as the kernel told it: another than made the process, where that one has ended."""

        self._tracker: native.Tracker | None = None
        if in_c:
            places = _execution.index("exe_path"), _execution.index("result")
            bodies = getattr(_read_execution, "__self__", _read_execution)
            fresh = Process.__struct_defaults__
            self._tracker = native.Tracker(
                ProcessEvent, Execve, Process, fresh, (Fork, Exit), bodies, places, depth, max_processes, TICK_NS
            )

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `exe`, `pid_tree` and, where it is wanted, `parent` of every event, and learn from it."""
        self._seen += len(events)
        tell_parent = self._tell_parent if self._tells_parents() else None
        if self._tracker is None:
            for event in events:
                self._take(event, tell_parent)
            return
        track, at = self._tracker.track, 0
        while True:
            shared = self._processes, self._by_origin, self._names, self._epoch, self._line, tell_parent
            at = track(events, at, *shared)
            if at == len(events):
                break
            self._take(events[at], tell_parent)
            at += 1

    def _take(self, event: ProcessEvent, tell_parent: Callable[[ProcessEvent], None] | None) -> None:
        process = self._processes.get(event.tgid)
        if process is None or (process.start != event.start_time and not _began(process, event.start_time)):
            process = self._meet(event)
        elif type(event) is Execve:
            self._executed(process, event)
        else:
            self._other(process, event)
        event.exe = process.exe
        event.pid_tree = process.line if process.epoch == self._epoch else self._line(process)
        if tell_parent is not None:
            tell_parent(event)
        if process.has_ended:
            process.line, process.epoch = "", -1

    def _tell_parent(self, event: ProcessEvent) -> None:
        parent = self._by_origin.get(event.origin) or self._parent_of(event)
        if parent is not None:
            event.parent = parent.as_parent or self._as_parent(parent)

    def _executed(self, process: Process, event: Execve) -> None:
        body = _read_execution(event.body)
        process.exe, process.exe_file, process.as_parent = body[_EXE_PATH], event.exe_file, ""
        if not body[_RESULT]:
            if process.has_children:
                self._epoch += 1
            process.comm, process.epoch = event.comm, -1

    def _other(self, process: Process, event: ProcessEvent) -> None:
        # An execution tells the executable; before anything else it must be known, for a child inherits it.
        if process.exe_file != event.exe_file and event.exe_file != NO_FILE:
            process.exe = self._exe_of(event.tgid, event.exe_file)
            process.exe_file = event.exe_file
            process.as_parent = ""
        if type(event) is Fork:
            self._forked(process, event)
        elif type(event) is Exit:
            self._exited(process)

    def _meet(self, event: ProcessEvent) -> Process:
        """The process of `event`, which the table does not hold, with what that says of it."""
        self._unknown += 1
        parent = self._by_origin.get(event.origin) or self._parent_of(event) or self._unseen_parent(event)
        if type(event) is Execve:
            exe = _read_execution(event.body)[_EXE_PATH]
            return self._add(Process(event.tgid, event.start_time, parent, event.comm, exe, event.exe_file))
        process = self._add(Process(event.tgid, event.start_time, parent, event.comm, b"", NO_FILE))
        self._other(process, event)
        return process

    def _unseen_parent(self, event: ProcessEvent) -> Process | None:
        """Its own events were filtered, lost, or came before the start: all that is known is its pid."""
        origin = _read_origin(event.origin)
        tgid = origin[_PPID]
        if not tgid:
            return None
        return self._add(Process(tgid, origin[_PARENT_START], None, self._comm_of(tgid), b"", NO_FILE))

    def _known(self, tgid: int, start: int) -> Process | None:
        process = self._processes.get(tgid)
        return process if process is None or _began(process, start) else None

    def _parent_of(self, event: ProcessEvent) -> Process | None:
        origin = _read_origin(event.origin)
        parent = self._known(origin[_PPID], origin[_PARENT_START])
        if parent is not None:
            if len(self._by_origin) >= Remembered.most:
                self._by_origin.clear()
            self._by_origin[event.origin] = parent
        return parent

    def _as_parent(self, process: Process) -> str:
        if not process.exe and self._ask_proc:
            self._look_at_executable(process)
        process.as_parent = self._parents[process.comm, process.exe]
        return process.as_parent

    def _exe_of(self, tgid: int, file: bytes) -> bytes:
        """The path of a living process's executable, if it still is that file."""
        found = executable(tgid) if self._ask_proc else None
        return found[0] if found is not None and FileId.unpack(file).is_same(found[1]) else b""

    def executable_of(self, event: ProcessEvent, tgid: int) -> tuple[bytes, bytes]:
        """Path and identity of what runs in `tgid`, the process of `event`, one of its line, or a living one."""
        process = self._processes.get(event.tgid)
        while process is not None and process.tgid != tgid:
            process = process.parent
        process = process or self._processes.get(tgid)
        if process is None:
            return b"", NO_FILE
        if not process.exe and self._ask_proc:
            self._look_at_executable(process)
        return process.exe, process.exe_file

    def _look_at_executable(self, process: Process) -> None:
        """Of a process that did nothing since the start. Its id may have gone to another meanwhile."""
        found, read = executable(process.tgid), stat_of(process.tgid)
        if found is not None and read is not None and read[1] == process.start // TICK_NS * TICK_NS:
            process.exe, process.exe_file, process.as_parent = found[0], found[1].pack(), ""

    def _comm_of(self, tgid: int) -> bytes:
        read = stat_of(tgid) if self._ask_proc else None
        return read[2] if read else b"?"

    def _add(self, process: Process) -> Process:
        processes, parent = self._processes, process.parent
        processes[process.tgid] = process
        if parent is not None:
            parent.has_children = True
        if len(processes) > self._max:
            self._forget()
        return process

    def _forked(self, parent: Process, event: Fork) -> None:
        present = self._processes.get(event.child_tgid)
        if present is not None and present.start == event.child_start_time // TICK_NS * TICK_NS:
            present.start, present.parent, present.epoch = event.child_start_time, parent, -1
            parent.has_children = True
            return
        self._add(Process(event.child_tgid, event.child_start_time, parent, event.comm, parent.exe, parent.exe_file))

    def _exited(self, process: Process) -> None:
        if process.has_ended:
            return
        process.has_ended = True
        self._ended.append(process)
        # A fork storm must neither fill the memory nor push out the living.
        while len(self._ended) > self._max // _ENDED_SHARE:
            self._forget()

    def _forget(self) -> None:
        """Drop the process that ended first, or, of a table of living ones, the oldest entry."""
        self._evictions += 1
        if not self._ended:
            self._by_origin.clear()  # who lives on is met again, and has other names then
        process = self._ended.popleft() if self._ended else next(iter(self._processes.values()))
        if self._processes.get(process.tgid) is process:
            del self._processes[process.tgid]
        # Descendants hold on to the dead: without a short cut to the living, to all their line.
        while process.parent is not None and process.parent.has_ended:
            process.parent = process.parent.parent

    def _line(self, process: Process) -> str:
        parent = process.parent
        if parent is not None:
            if parent.epoch != self._epoch:
                self._set_line(parent)
            if parent.line_length < self._depth:
                line = f"{parent.line}->{process.tgid}({self._names[process.comm]})"
                if process.asked:
                    process.line_length = parent.line_length + 1
                    process.line = line
                    process.epoch = self._epoch
                process.asked = True
                return line
        return self._set_line(process)

    def _set_line(self, process: Process) -> str:
        parts: list[str] = []
        at: Process | None = process
        while at is not None and len(parts) < self._depth:
            parts.append(f"{at.tgid}({self._names[at.comm]})")
            at = at.parent
        process.line_length = len(parts)
        if at is not None:
            parts.append("...")
        process.line = "->".join(reversed(parts))
        process.epoch = self._epoch
        return process.line

    def seed(self) -> None:
        """Take in the processes of /proc; blocks. Call once, after the probes are attached."""
        found = living()
        for tgid in found:
            self._seed_one(tgid, found)

    def _seed_one(self, tgid: int, found: Mapping[int, tuple[int, int, bytes]]) -> None:
        line: list[int] = []
        at = tgid
        while at in found and at not in self._processes and at not in line:
            line.append(at)
            at = found[at][0]
        for each in reversed(line):
            ppid, start, comm = found[each]
            self._add(Process(each, start, self._processes.get(ppid), comm, b"", NO_FILE))

    def statistics(self) -> Mapping[str, int]:
        unknown = self._unknown + (self._tracker.met if self._tracker is not None else 0)
        return {
            "size": len(self._processes),
            "hits": self._seen - unknown,
            "misses": unknown,
            "ended": len(self._ended),
            "evictions": self._evictions,
        }


def _parent_piece(key: tuple[bytes, bytes]) -> str:
    """An event's `parent`, of the parent's name and executable."""
    comm, exe = key
    return f"{cstring_text(comm)}\0{cstring_text(exe)}"


def _began(process: Process, start: int) -> bool:
    """Whether it is the life that began then; one that /proc told of, by ticks, has that time from now on."""
    if process.start == start // TICK_NS * TICK_NS:
        process.start = start
    return process.start == start
