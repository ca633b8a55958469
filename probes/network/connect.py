# SPDX-License-Identifier: GPL-2.0-or-later
"""Outgoing connections."""

from __future__ import annotations

from socket import AF_UNIX
from typing import Annotated, Literal

from probes.event import ProcessEvent
from probes.fields import Ip, Names, Tail, s32, u16
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS, TRANSPORTS
from probes.probe import Form, Hook, Probe, TailProgram
from probes.text import address_text, error_text, printable, unix_text


class Connect(ProcessEvent, gc=False):
    """A socket was connected, or failed to be (connect(2) and its io_uring form), UDP too."""

    data_type = 42
    event_name = "connect"
    dataset = "network"
    category = "network"
    action_type = "connection"

    result: Annotated[
        s32,
        Names("0, or the negative errno; -115 (EINPROGRESS): under way.", "res", "hookline.result", "long"),
    ]
    fd: Annotated[s32, Names("Descriptor; -1: io_uring.", "fd", "hookline.socket.fd", "long")]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    type: Annotated[u16, Names("Socket type: 1 stream, 2 datagram.", None, "hookline.socket.type", "long")]
    protocol: Annotated[u16, Names("Protocol.", "protocol", "network.transport", "keyword", TRANSPORTS)]
    source_port: Annotated[u16, Names("Local port.", "sport", "source.port", "long")]
    port: Annotated[u16, Names("Remote port.", "dport", "destination.port", "long")]
    from_caller: Annotated[
        u16,
        Names(
            "1: the remote end is as the caller named it, for the socket holds none after a failure.",
            "from_caller",
            "hookline.socket.from_caller",
            "long",
        ),
    ]
    source: Annotated[bytes, Ip("family"), Names("Local address.", "sip", "source.ip", "ip")]
    address: Annotated[bytes, Ip("family"), Names("Remote address.", "dip", "destination.ip", "ip")]
    path: Annotated[
        bytes,
        Tail(128, "unix"),
        Names("Path of an AF_UNIX peer; an abstract name begins with @.", "path", "hookline.socket.path"),
    ]

    def summary(self) -> str:
        if self.family == AF_UNIX:
            peer = unix_text(self.path)
        else:
            peer = f"{address_text(self.family, self.address)}:{self.port}"
        return printable(
            f"{self.user} {self.pid} {self.program()} -> {peer} "
            f"{TRANSPORTS.get(self.protocol, self.protocol)} result {error_text(self.result)} {self.pid_tree}"
        )


_HOOKS = (
    Hook(
        "connect_returned",
        "tracepoint",
        "syscalls:sys_exit_connect",
        sees="connect(2)",
    ),
    Hook(
        "connect_by_io_uring",
        "tracepoint",
        "io_uring:io_uring_complete",
        fields=("req",),  # since Linux 5.16
        optional=True,
        sees="connections made through io_uring",
    ),
)
_TAILS = (TailProgram("connect_report", "tracepoint"),)
_MISSES = (
    "32-bit connect(2) on a 64-bit kernel; TCP Fast Open and sendto(2), which need no connect(2); a call that a signal "
    "interrupts is told with EINTR, and again if the kernel restarts it"
)


def _judged(mechanism: Literal["fentry", "kprobe"]) -> Form:
    hook = Hook("connect_judged", mechanism, "security_socket_connect", sees="the address, in the kernel's own copy")
    return Form(mechanism, hooks=(hook, *_HOOKS), tails=_TAILS, misses=_MISSES)


PROBE = Probe(
    event=Connect,
    forms=(
        _judged("fentry"),
        _judged("kprobe"),
        Form(
            "tracepoint",
            hooks=_HOOKS,
            tails=_TAILS,
            misses=f"{_MISSES}; after a failure, an address that the caller has rewritten meanwhile",
        ),
    ),
    structs={
        **SOCKET_STRUCTS,
        "unix_sock": ("peer", "addr"),
        "unix_address": ("len", "name"),
        "io_kiocb": ("opcode", "file"),
    },
    enumerators=("IORING_OP_CONNECT",),
)
