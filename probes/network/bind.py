# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses that programs take for themselves."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Ip, Names, Result, s32, u16
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS, TRANSPORTS
from probes.probe import Form, Hook, Probe
from probes.text import address_text, error_text, printable


class Bind(ProcessEvent, gc=False):
    """A v4 or v6 socket was bound to a local address, or failed to be (bind(2)), UDP too."""

    data_type = 49
    event_name = "bind"
    dataset = "network"
    category = "network"
    action_type = "info"

    result: Result
    fd: Annotated[s32, Names("Descriptor.", "fd", "hookline.socket.fd", "long")]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    type: Annotated[u16, Names("Socket type: 1 stream, 2 datagram.", None, "hookline.socket.type", "long")]
    protocol: Annotated[u16, Names("Protocol.", "protocol", "network.transport", "keyword", TRANSPORTS)]
    port: Annotated[u16, Names("Local port, the one that port 0 became.", "sport", "source.port", "long")]
    from_caller: Annotated[
        u16,
        Names(
            "1: address and port are as the caller named them, for the socket holds none after a failure.",
            "from_caller",
            "hookline.socket.from_caller",
            "long",
        ),
    ]
    address: Annotated[bytes, Ip("family"), Names("Local address.", "sip", "source.ip", "ip")]

    def summary(self) -> str:
        where = f"{address_text(self.family, self.address)}:{self.port}"
        return printable(
            f"{self.user} {self.pid} {self.program()} bound to {where} "
            f"{TRANSPORTS.get(self.protocol, self.protocol)} result {error_text(self.result)} {self.pid_tree}"
        )


PROBE = Probe(
    event=Bind,
    forms=(
        Form(
            "tracepoint",
            hooks=(Hook("bind_returned", "tracepoint", "syscalls:sys_exit_bind", sees="bind(2)"),),
            misses=(
                "32-bit bind(2) on a 64-bit kernel; bind by io_uring (Linux 6.11); ports that connect(2), sendto(2) "
                "or listen(2) take without bind(2); AF_UNIX"
            ),
        ),
    ),
    structs=SOCKET_STRUCTS,
)
