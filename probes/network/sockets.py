# SPDX-License-Identifier: GPL-2.0-or-later
"""What the network probes share: what ``sockets.h`` reads, and what numbers are called."""

from __future__ import annotations

SOCKET_STRUCTS = {
    "sock_common": (
        "skc_family",
        "skc_dport",
        "skc_num",
        "skc_daddr",
        "skc_rcv_saddr",
        "skc_v6_daddr",
        "skc_v6_rcv_saddr",
    ),
    "sock": ("sk_type", "sk_protocol"),
    "socket": ("sk",),
    "file": ("private_data",),
    "inode": ("i_mode",),
}
"""Kernel structs and members behind ``sockets.h``."""

FAMILIES = {2: "ipv4", 10: "ipv6", 1: "unix"}
"""ECS ``network.type`` by address family."""

TRANSPORTS = {0: "unix", 1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp", 262: "mptcp"}
"""ECS ``network.transport`` by protocol number."""
