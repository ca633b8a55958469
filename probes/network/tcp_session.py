# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole TCP connections, told when they end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import BootTime, Derived, EcsType, Ip, Names, s32, u16, u64
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS
from probes.probe import Form, Hook, Probe
from probes.text import address_text, printable

_IN, _OUT = 1, 2
_DIRECTIONS = {0: "unknown", _IN: "inbound", _OUT: "outbound"}
_OUTCOMES = {0: "established", 1: "refused", 2: "reset", 3: "timeout", 4: "failed"}


def _words(direction: int, outcome: int) -> Mapping[str, object]:
    words: dict[str, object] = {"outcome_word": _OUTCOMES[outcome]} if outcome in _OUTCOMES else {}
    if direction in {_IN, _OUT}:
        words["direction_word"] = "IN" if direction == _IN else "OUT"
    return words


def _ends(
    direction: int, family: int, local: bytes, local_port: int, remote: bytes, port: int, sent: int, received: int
) -> Mapping[str, object]:
    """Who opened the connection is the source, as ECS has it; if that is unknown, this host."""
    here = (address_text(family, local) or None, local_port, sent)
    there = (address_text(family, remote) or None, port, received)
    (source, source_port, source_bytes), (target, target_port, target_bytes) = (
        (there, here) if direction == _IN else (here, there)
    )
    return {
        "source_ip": source,
        "source_end": source_port,
        "source_bytes": source_bytes,
        "target_ip": target,
        "target_end": target_port,
        "target_bytes": target_bytes,
    }


def _end(name: str, doc: str, ecs: str, ecs_type: EcsType) -> Derived:
    sources = ("direction", "family", "source", "source_port", "address", "port", "sent", "received")
    return Derived(name, sources, _ends, Names(doc, None, ecs, ecs_type))


class TcpSession(ProcessEvent, gc=False):
    """A TCP connection ended, or could not be opened. The process is the one that opened or accepted it."""

    data_type = 802
    event_name = "tcp_session"
    dataset = "network"
    category = "network"
    action_type = "end"

    derived = (
        Derived("direction_word", ("direction", "outcome"), _words, Names("IN or OUT.", "direction")),
        Derived(
            "outcome_word",
            ("direction", "outcome"),
            _words,
            Names("What became of it: established (and then closed), refused, reset, timeout, failed.", "result"),
        ),
        Derived(
            "transport",
            ("family",),
            lambda _family: {"transport": "tcp"},
            Names("`tcp`, of every session.", None, "network.transport"),
        ),
        _end("source_ip", "Address of the end that opened it.", "source.ip", "ip"),
        _end("source_end", "Port of that end.", "source.port", "long"),
        _end("source_bytes", "Bytes that it sent.", "source.bytes", "long"),
        _end("target_ip", "Address of the other end.", "destination.ip", "ip"),
        _end("target_end", "Port of the other end.", "destination.port", "long"),
        _end("target_bytes", "Bytes that it sent.", "destination.bytes", "long"),
    )

    start: Annotated[
        u64,
        BootTime(),
        Names("When it was opened, ns since boot; 0: before the collector started.", "start", "event.start", "date"),
    ]
    end: Annotated[u64, BootTime(), Names("When it ended, ns since boot.", "end", "event.end", "date")]
    duration: Annotated[u64, Names("From start to end, ns; 0: unknown.", "duration", "event.duration", "long")]
    received: Annotated[u64, Names("Bytes that came in order.", "rx")]
    sent: Annotated[u64, Names("Bytes that the other end has acknowledged.", "tx")]
    result: Annotated[
        s32, Names("0, or the negative errno of what ended it: -104 a reset.", "res", "hookline.result", "long")
    ]
    outcome: Annotated[u16, Names("What became of it.", None, "hookline.tcp.result", "keyword", _OUTCOMES)]
    direction: Annotated[u16, Names("Who opened it.", None, "network.direction", "keyword", _DIRECTIONS)]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    source_port: Annotated[u16, Names("Local port.", "sport")]
    port: Annotated[u16, Names("Remote port.", "dport")]
    source: Annotated[bytes, Ip("family"), Names("Local address.", "sip")]
    address: Annotated[bytes, Ip("family"), Names("Remote address.", "dip")]

    def summary(self) -> str:
        arrow = {_IN: "<-", _OUT: "->"}.get(self.direction, "--")
        ends = (
            f"{address_text(self.family, self.source)}:{self.source_port} {arrow} "
            f"{address_text(self.family, self.address)}:{self.port}"
        )
        return printable(
            f"{self.user} {self.tgid} {self.program()} {ends} {_OUTCOMES.get(self.outcome, self.outcome)} "
            f"{self.duration / 1e9:.3f} s in {self.received} out {self.sent}"
        )


def _accepted(call: str) -> Hook:
    return Hook(
        "tcp_session_accepted",
        "tracepoint",
        f"syscalls:sys_exit_{call}",
        optional=True,
        sees=f"who accepts a connection by {call}(2)",
    )


PROBE = Probe(
    event=TcpSession,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                Hook(
                    "tcp_session_state",
                    "raw_tracepoint",
                    "inet_sock_set_state",
                    arguments=3,
                    sees="every change of a TCP socket's state",
                ),
                _accepted("accept"),
                _accepted("accept4"),
                Hook(
                    "tcp_session_accepted_by_io_uring",
                    "tracepoint",
                    "io_uring:io_uring_complete",
                    fields=("req",),  # since Linux 5.16
                    optional=True,
                    sees="who accepts a connection through io_uring",
                ),
            ),
            misses=(
                "the process of a connection that nobody accepted before it ended, or that was accepted by a 32-bit "
                "call, an io_uring multishot accept or into a fixed-file slot: it is told without one (process id 0); "
                "start, direction and process of one that was opened before the collector started or that is the "
                "oldest of more than 16,384; a process that gets the socket later, by fork(2) or over a Unix socket: "
                "the first one is told; attempts that were answered by SYN cookies alone; a connection that ends in "
                "the very moment in which the kernel runs this program on the same CPU: the kernel then counts it as "
                "skipped"
            ),
        ),
    ),
    structs={
        **SOCKET_STRUCTS,
        "sock_common": (*SOCKET_STRUCTS["sock_common"], "skc_flags"),
        "sock": ("sk_protocol", "sk_err"),
        "inet_sock": ("inet_sport",),
        "tcp_sock": ("bytes_received", "bytes_acked", "snd_una", "write_seq"),
        "io_kiocb": ("opcode",),
        "io_accept": ("file_slot?",),
    },
    enumerators=("SOCK_DONE", "IORING_OP_ACCEPT"),
)
