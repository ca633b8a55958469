# SPDX-License-Identifier: GPL-2.0-or-later
"""The connected socket behind a process, and who holds it: what ``socket_owner.h`` finds."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Annotated

from probes.event import UNKNOWN
from probes.fields import Block, Derived, Names, Part, Tail
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS
from probes.text import address_text

_OWNER = struct.Struct("<4HI16s16s")

SOCKET_OWNER_STRUCTS = {
    **SOCKET_STRUCTS,
    "sock_common": (*SOCKET_STRUCTS["sock_common"], "skc_state"),
    "task_struct": ("pid_links",),
    "pid": ("tasks",),
    "files_struct": ("fd_array", "open_fds_init"),
    "fdtable": ("open_fds",),
}
"""Kernel structs and members behind ``socket_owner.h``."""

SocketOwner = Annotated[
    bytes,
    Tail(_OWNER.size),
    Names(
        "The connected v4 or v6 socket of the process, of its pipeline, or of an ancestor: made into the fields below."
    ),
]

SocketProcess = Annotated[str, Block()]
"""The parts `SocketProcessExe` and `SocketProcessMd5`."""

SocketProcessExe = Annotated[
    str,
    Part("socket_process", UNKNOWN),
    Names(
        "Executable of the process that holds the socket.", "socket_process_exe", "hookline.socket.process.executable"
    ),
]
SocketProcessMd5 = Annotated[
    str,
    Part("socket_process", UNKNOWN),
    Names("MD5 of that, as far as it is known.", "socket_process_exe_md5", "hookline.socket.process.hash.md5"),
]


def owner_pid(socket: bytes) -> int:
    """The process that holds the socket of such a tail, which is not empty."""
    pid: int = _OWNER.unpack(socket)[4]
    return pid


def _fields(socket: bytes) -> Mapping[str, object]:
    if len(socket) != _OWNER.size:
        return {}
    family, _type, local_port, remote_port, pid, local, remote = _OWNER.unpack(socket)
    return {
        "dip": address_text(family, remote),
        "dport": remote_port,
        "sip": address_text(family, local),
        "sport": local_port,
        "sa_family": family,
        "network_type": FAMILIES.get(family, str(family)),
        "socket_process_pid": pid,
    }


SOCKET_FIELDS = tuple(
    Derived(name, ("socket",), _fields, names)
    for name, names in {
        "dip": Names("Remote address of the socket.", "dip", "destination.ip", "ip"),
        "dport": Names("Remote port.", "dport", "destination.port", "long"),
        "sip": Names("Local address.", "sip", "source.ip", "ip"),
        "sport": Names("Local port.", "sport", "source.port", "long"),
        "sa_family": Names("Address family: 2 or 10.", "sa_family"),
        "network_type": Names("ipv4 or ipv6.", None, "network.type"),
        "socket_process_pid": Names(
            "The process that holds the socket.", "socket_process_pid", "hookline.socket.process.pid", "long"
        ),
    }.items()
)
