# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets to TCP ports where nobody listens."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Ip, Names, u16, u32
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS
from probes.probe import Form, Hook, Probe
from probes.text import address_text, printable

_FLAGS = ((1, "FIN"), (2, "SYN"), (4, "RST"), (8, "PSH"), (16, "ACK"), (32, "URG"), (64, "ECE"), (128, "CWR"))


class PortScan(ProcessEvent, gc=False):
    """A TCP packet that could open a connection, or probes for one, came to a closed port of this host.

    No process is the cause: its fields are 0 or unknown.
    """

    data_type = 612
    event_name = "port_scan"
    dataset = "network"
    category = "network"
    action_type = "denied"

    left_out: Annotated[
        u32,
        Names(
            "Packets of this source since its last event that were left out: a port is told once in 60 s, of one "
            "source at most 256 ports in that time, and on one CPU at most 500 events in a second.",
            "left_out",
            "hookline.port_scan.left_out",
            "long",
        ),
    ]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    tcp_flags: Annotated[u16, Names("TCP flags: 2 is SYN, 1 FIN, 0 none.", "flags", "hookline.tcp.flags", "long")]
    source_port: Annotated[u16, Names("Port that it came from.", "sport", "source.port", "long")]
    port: Annotated[u16, Names("Port of this host.", "dport", "destination.port", "long")]
    source: Annotated[bytes, Ip("family"), Names("Address that it says it came from.", "sip", "source.ip", "ip")]
    address: Annotated[bytes, Ip("family"), Names("Address of this host.", "dip", "destination.ip", "ip")]

    def summary(self) -> str:
        flags = "+".join(name for bit, name in _FLAGS if self.tcp_flags & bit) or "no flags"
        return printable(
            f"{address_text(self.family, self.source)}:{self.source_port} -> "
            f"{address_text(self.family, self.address)}:{self.port} {flags}, left out before: {self.left_out}"
        )


PROBE = Probe(
    event=PortScan,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                Hook(
                    "port_scan_reset",
                    "raw_tracepoint",
                    "tcp_send_reset",
                    arguments=3,
                    optional=True,
                    sees="packets that this host answers with a reset (Linux 6.10)",
                ),
                Hook(
                    "port_scan_dropped",
                    "raw_tracepoint",
                    "kfree_skb",
                    arguments=3,
                    unless="port_scan_reset",
                    sees="packets that this host drops for want of a socket (Linux 5.17)",
                ),
            ),
            misses=(
                "packets that a firewall drops or rejects before TCP; scans of open ports, which `accept` and "
                "`tcp_session` tell of, and half-open ones of these; UDP; scans with ACK, which look like the rest "
                "of a connection; v6 packets with extension headers; whether the source's address is true"
            ),
        ),
    ),
    structs={**SOCKET_STRUCTS, "sk_buff": ("head", "network_header", "transport_header")},
    enumerators=("SKB_DROP_REASON_NO_SOCKET",),
    default=False,
)
