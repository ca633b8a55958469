# SPDX-License-Identifier: GPL-2.0-or-later
"""The same questions to events of both schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probes.text import to_bytes

Event = dict[str, Any]

CONNECT, ACCEPT, BIND, EXECVE, EXIT, CREATE_FILE, FORK = 42, 43, 49, 59, 60, 602, 801
RENAME, LINK, UNLINK, RMDIR, MOUNT_KIND = 82, 86, 605, 606, 165
MPROTECT_KIND, KILL_KIND, PTRACE_KIND, SETSID_KIND, PRCTL_KIND, TKILL_KIND = 10, 62, 101, 112, 157, 200
MEMFD_CREATE = 356
DNS, TCP_SESSION, PORT_SCAN = 601, 802, 612
RESOLVE, JAVA_EXEC, SHELL_LINE = 803, 804, 805

_ECS = {
    "data_type": "hookline.data_type",
    "argv": "process.args",
    "exe": "process.executable",
    "filename": "hookline.process.filename",
    "run_path": "process.working_directory",
    "stdin": "hookline.process.stdin",
    "stdout": "hookline.process.stdout",
    "comm": "process.name",
    "pid_tree": "hookline.process.tree",
    "nodename": "hookline.nodename",
    "file_path": "file.path",
    "SSH_CONNECTION": "hookline.process.ssh_connection",
    "LD_PRELOAD": "hookline.process.ld_preload",
    "exe_md5": "process.hash.md5",
    "res": "hookline.result",
}


def kind_of(event: Event) -> int:
    """The event's data_type."""
    return int(event.get("data_type") or event["hookline"]["data_type"])


def process_of(event: Event) -> tuple[int, str]:
    """The id of the process that caused the event, and the name of this one life of the id; (0, "") of a gap."""
    if "event_id" in event:
        return int(event.get("tgid", 0)), event.get("entity_id", "")
    process = event.get("process", {})
    if kind_of(event) == FORK:
        process = process["parent"]
    return process.get("pid", 0), process.get("entity_id", "")


def caused_by(events: Sequence[Event], pid: int, kind: int | None = None) -> list[Event]:
    """The events (of a kind) that a process caused; if the id had several lives, the last one's."""
    found = [event for event in events if process_of(event)[0] == pid]
    life = process_of(found[-1]) if found else None
    return [event for event in found if process_of(event) == life and kind in {None, kind_of(event)}]


def value(event: Event, name: str) -> Any:
    """The value of a field by its smith name; None where it is unknown."""
    if "event_id" in event:
        found = event[name]
        return None if found == "-1" else found
    here: Any = event
    for part in _ECS[name].split("."):
        here = here.get(part, {}) if isinstance(here, Mapping) else {}
    return None if here == {} else here


def raw(event: Event, name: str) -> bytes | None:
    """The bytes that the kernel had."""
    text = value(event, name)
    return None if text is None else to_bytes(text)


def truncated(event: Event) -> set[str]:
    """The smith names of what is told as cut; less the search for a socket, which depends on who runs the tests."""
    if "event_id" in event:
        marks = {key: said for key, said in event.items() if key.endswith("_truncated")}
        assert set(marks.values()) <= {"1"}
        return {key.removesuffix("_truncated") for key in marks} - {"socket"}
    return set(event["hookline"].get("truncated", [])) - {"socket"}


def arguments_match(event: Event, arguments: list[bytes]) -> bool:
    """Whether the event tells these arguments: in ecs each by itself, in smith each ended by a space."""
    if "event_id" in event:
        return raw(event, "argv") == b"".join(each + b" " for each in arguments)
    args = [to_bytes(each) for each in event["process"]["args"]]
    return args == arguments and event["process"]["args_count"] == len(arguments)
