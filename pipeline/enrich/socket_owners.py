# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in the process that holds the socket of an execution or a new file; the kernel side tells its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipeline.enrich.process_tree import ProcessTree
from probes.event import ProcessEvent
from probes.file.create_file import CreateFile
from probes.layout import layout
from probes.process.execve import Execve
from probes.process.socket_owner import owner_pid
from probes.text import to_text

KnownMd5 = Callable[[bytes], str]
"""The MD5 of an executable by its identity; "" where it is not known."""


def _length_of(kind: type[ProcessEvent]) -> slice:
    """Where the tail's length lies in an event's body, which tells by itself whether there is a socket."""
    rest = layout(kind).rest
    [at] = [member.offset - rest.offset for member in rest.members if member.name == "socket_length"]
    return slice(at, at + 4)


_EXECUTION, _CREATION = _length_of(Execve), _length_of(CreateFile)
_NONE = bytes(4)


class SocketOwners:
    """Keeps nothing: the tree knows the processes."""

    def __init__(self, tree: ProcessTree, md5: KnownMd5 | None) -> None:
        self._tree = tree
        self._md5 = md5
        self._found = self._unknown = 0

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `socket_process` of the executions and new files that have a socket."""
        for event in events:
            kind = type(event)
            if kind is Execve:
                if event.body[_EXECUTION] != _NONE:
                    self._tell(event)  # type: ignore[arg-type]
            elif kind is CreateFile and event.body[_CREATION] != _NONE:
                self._tell(event)  # type: ignore[arg-type]

    def _tell(self, event: Execve | CreateFile) -> None:
        exe, exe_file = self._tree.executable_of(event, owner_pid(event.socket))
        if exe:
            self._found += 1
            event.socket_process = f"{to_text(exe)}\0{self._md5(exe_file) if self._md5 is not None else ''}"
        else:
            self._unknown += 1

    def statistics(self) -> Mapping[str, int]:
        return {"found": self._found, "unknown": self._unknown}
