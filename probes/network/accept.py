# SPDX-License-Identifier: GPL-2.0-or-later
"""Incoming connections that a program took."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Ip, Names, Result, s32, u16
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS, TRANSPORTS
from probes.probe import Form, Hook, Probe
from probes.text import address_text, error_text, printable


class Accept(ProcessEvent, gc=False):
    """A program accepted a v4 or v6 connection, or failed to (accept(2), accept4(2), io_uring)."""

    data_type = 43
    event_name = "accept"
    dataset = "network"
    category = "network"
    action_type = "connection"

    result: Result
    fd: Annotated[s32, Names("Descriptor of the new socket; -1 after a failure.", "fd", "hookline.socket.fd", "long")]
    listener_fd: Annotated[
        s32,
        Names(
            "Descriptor of the listening socket; -1: io_uring.", "listener_fd", "hookline.socket.listener_fd", "long"
        ),
    ]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    type: Annotated[u16, Names("Socket type: 1 stream, 5 packets.", None, "hookline.socket.type", "long")]
    protocol: Annotated[u16, Names("Protocol.", "protocol", "network.transport", "keyword", TRANSPORTS)]
    source_port: Annotated[u16, Names("Local port.", "sport", "destination.port", "long")]
    port: Annotated[u16, Names("Remote port; 0 after a failure.", "dport", "source.port", "long")]
    source: Annotated[bytes, Ip("family"), Names("Local address.", "sip", "destination.ip", "ip")]
    address: Annotated[bytes, Ip("family"), Names("Remote address.", "dip", "source.ip", "ip")]

    def summary(self) -> str:
        ends = (
            f"{address_text(self.family, self.source)}:{self.source_port} <- "
            f"{address_text(self.family, self.address)}:{self.port}"
        )
        return printable(
            f"{self.user} {self.pid} {self.program()} accepted {ends} "
            f"{TRANSPORTS.get(self.protocol, self.protocol)} result {error_text(self.result)} {self.pid_tree}"
        )


def _accepted(call: str) -> Hook:
    return Hook(
        "accept_returned",
        "tracepoint",
        f"syscalls:sys_exit_{call}",
        sees=f"{call}(2)",
    )


PROBE = Probe(
    event=Accept,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                _accepted("accept"),
                _accepted("accept4"),
                Hook(
                    "accept_by_io_uring",
                    "tracepoint",
                    "io_uring:io_uring_complete",
                    fields=("req",),  # since Linux 5.16
                    optional=True,
                    sees="connections accepted through io_uring",
                ),
            ),
            misses=(
                "32-bit system calls on a 64-bit kernel; multishot accepts and accepts into a fixed-file slot of "
                "io_uring; EAGAIN; AF_UNIX; a connection whose new descriptor another thread closes before the call "
                "returns"
            ),
        ),
    ),
    structs={**SOCKET_STRUCTS, "io_kiocb": ("opcode", "file"), "io_accept": ("file_slot?",)},
    enumerators=("IORING_OP_ACCEPT",),
    default=False,
)
