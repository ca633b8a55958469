# SPDX-License-Identifier: GPL-2.0-or-later
"""Who descends from whom, and which executable each process runs.

Fork, execve and exit events keep the table of processes; /proc fills it once at
the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.enrich.proc import TICK_NS, executable, living, stat_of
from pipeline.enrich.processes import PARENT_START, PPID, Process, Processes, began, read_origin
from probes.decoder import body_reader
from probes.event import ProcessEvent
from probes.identity import NO_FILE, FileId
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from probes.text import Remembered, cstring_text

try:
    from pipeline.enrich import native
except ImportError:  # there was no C compiler
    native = None  # type: ignore[assignment]

IS_BUILT = native is not None
"""Whether the usual turns are taken in C."""

# Several fields of one piece at once cost less than a property each.
_execution, _read_execution = body_reader(Execve)
_EXE_PATH, _RESULT = _execution.index("exe_path"), _execution.index("result")


class ProcessTree:
    """At most `max_processes` processes, and lines of at most `depth` of them."""

    def __init__(
        self,
        *,
        depth: int,
        max_processes: int,
        ask_proc: bool,
        tells_parents: Callable[[], bool] = lambda: True,
        is_hashed: Callable[[bytes], bool] = lambda _file: False,
        in_c: bool = IS_BUILT,
    ) -> None:
        """`tells_parents`: whether anybody wants to know `parent`; `is_hashed`: whether the digest of a file is known,
        by its identity; `in_c`: whether to take the usual turns in C.
        """
        self._depth = depth
        self._tells_parents = tells_parents
        self._is_hashed = is_hashed
        self._ask_proc = ask_proc
        """Whether /proc is of the host that the events are of."""
        self._table = Processes(max_processes)
        self._epoch = 0
        """Changes when a process that has children changes its name: their lines name it."""
        self._seen = self._unknown = 0
        self._names = Remembered(cstring_text)
        self._parents = Remembered(_parent_piece)

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
            table = self._table
            shared = table.by_tgid, table.by_origin, self._names, self._epoch, table.exited, self._line, tell_parent
            at = track(events, at, *shared)
            if at == len(events):
                break
            self._take(events[at], tell_parent)
            at += 1

    def _take(self, event: ProcessEvent, tell_parent: Callable[[ProcessEvent], None] | None) -> None:
        process = self._table.by_tgid.get(event.tgid)
        if process is None or (process.start != event.start_time and not began(process, event.start_time)):
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
        parent = self._table.parent_of(event)
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
            self._runs_other(process, event)
        if type(event) is Fork:
            self._table.forked(process, event)
        elif type(event) is Exit:
            self._table.exited(process)

    def _runs_other(self, process: Process, event: ProcessEvent) -> None:
        """What the process runs is not as it was, though no execution was told."""
        before, now = FileId.unpack(process.exe_file), FileId.unpack(event.exe_file)
        if not process.exe or not now.has_inode_of(before):
            process.exe = self._exe_of(event.tgid, event.exe_file)
        elif now.has_content_of(before) and self._is_hashed(process.exe_file):
            # It was renamed, removed or the like. What was executed has a digest; the file may not be found any more.
            event.exe_file = process.exe_file
            return
        process.exe_file = event.exe_file
        process.as_parent = ""

    def _meet(self, event: ProcessEvent) -> Process:
        """The process of `event`, which the table does not hold, with what that says of it."""
        self._unknown += 1
        parent = self._table.parent_of(event) or self._unseen_parent(event)
        if type(event) is Execve:
            exe = _read_execution(event.body)[_EXE_PATH]
            return self._table.add(Process(event.tgid, event.start_time, parent, event.comm, exe, event.exe_file))
        process = self._table.add(Process(event.tgid, event.start_time, parent, event.comm, b"", NO_FILE))
        self._other(process, event)
        return process

    def _unseen_parent(self, event: ProcessEvent) -> Process | None:
        """Its own events were filtered, lost, or came before the start: all that is known is its pid."""
        origin = read_origin(event.origin)
        tgid = origin[PPID]
        if not tgid:
            return None
        return self._table.add(Process(tgid, origin[PARENT_START], None, self._comm_of(tgid), b"", NO_FILE))

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
        process = self._table.by_tgid.get(event.tgid)
        while process is not None and process.tgid != tgid:
            process = process.parent
        process = process or self._table.by_tgid.get(tgid)
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
        self._table.seed(living())

    def statistics(self) -> Mapping[str, int]:
        unknown = self._unknown + (self._tracker.met if self._tracker is not None else 0)
        return {**self._table.statistics(), "hits": self._seen - unknown, "misses": unknown}


def _parent_piece(key: tuple[bytes, bytes]) -> str:
    """An event's `parent`, of the parent's name and executable."""
    comm, exe = key
    return f"{cstring_text(comm)}\0{cstring_text(exe)}"
