# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of name servers, at the program that gets them."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Derived, EcsType, Ip, Names, Tail, s32, u16, u32
from probes.network.dns_message import decode
from probes.network.sockets import FAMILIES, SOCKET_STRUCTS, TRANSPORTS
from probes.probe import Form, Hook, Probe, TailProgram
from probes.text import address_text, printable

_PEER_FROM = {0: "socket", 1: "message", 2: "unknown"}


def _said(name: str, doc: str, smith: str | None, ecs: str | None, ecs_type: EcsType = "keyword") -> Derived:
    return Derived(name, ("packet", "size"), decode, Names(doc, smith, ecs, ecs_type))


class Dns(ProcessEvent, gc=False):
    """A program received a response from port 53 or 5353, by UDP or TCP, decoded as far as its bytes go."""

    data_type = 601
    event_name = "dns"
    dataset = "dns"
    category = "network"
    action_type = "protocol"

    derived = (
        _said("application", "`dns`.", None, "network.protocol"),
        _said("id", "Number that the question had.", None, "dns.id"),
        _said("qr", "1: a response.", "qr", None),
        _said("opcode", "Kind of question, 0: an ordinary one.", "opcode", None),
        _said("rcode", "Response code, the upper bits of EDNS too; 0: no error, 3: no such name.", "rcode", None),
        _said("type", "`answer`.", None, "dns.type"),
        _said("opcode_name", "Kind of question by name.", None, "dns.op_code"),
        _said("rcode_name", "Response code by name.", None, "dns.response_code"),
        _said("header_flags", "Of AA, TC, RD, RA, AD and CD those that are set.", None, "dns.header_flags"),
        _said(
            "query",
            "Name that was asked for, without the last dot. A byte that is neither a letter nor a digit nor plain "
            "punctuation is a backslash and its three decimal digits, as in zone files.",
            "query",
            "dns.question.name",
        ),
        _said("qtype", "Type that was asked for, such as A; TYPE and its number if it has no name.", "qtype", None),
        _said("qtype", "The same.", None, "dns.question.type"),
        _said("qclass", "Class that was asked for.", "qclass", "dns.question.class"),
        _said("answers_count", "Answers, as the header counts them.", "answers_count", "dns.answers_count", "long"),
        _said("answers_text", "The first 64 answers: NAME TYPE DATA, a semicolon between them.", "answers", None),
        _said(
            "answers", "The first 64 answers: objects of name, type, class, ttl, data.", None, "dns.answers", "object"
        ),
        _said("resolved", "Addresses in the answers.", None, "dns.resolved_ip", "ip"),
        _said("malformed", "What is wrong with the message.", "malformed", "hookline.dns.malformed"),
    )

    fd: Annotated[s32, Names("Descriptor; -1: io_uring.", "fd", "hookline.socket.fd", "long")]
    size: Annotated[u32, Names("Bytes of the message.", "size", "hookline.dns.size", "long")]
    family: Annotated[u16, Names("Address family.", "sa_family", "network.type", "keyword", FAMILIES)]
    peer_family: Annotated[u16, Names("Address family of the peer; 0: unknown.")]
    peer_from: Annotated[
        u16,
        Names(
            "Who tells the peer: 0 the socket, which is connected; 1 the message, as the caller has it; 2 nobody, for "
            "the caller did not ask.",
            "peer_from",
            "hookline.dns.peer_from",
            "keyword",
            _PEER_FROM,
        ),
    ]
    protocol: Annotated[u16, Names("Protocol.", "protocol", "network.transport", "keyword", TRANSPORTS)]
    source_port: Annotated[u16, Names("Local port.", "sport", "source.port", "long")]
    port: Annotated[u16, Names("Port of the peer; 0: unknown.", "dport", "destination.port", "long")]
    source: Annotated[bytes, Ip("family"), Names("Local address.", "sip", "source.ip", "ip")]
    address: Annotated[bytes, Ip("peer_family"), Names("Address of the peer.", "dip", "destination.ip", "ip")]
    packet: Annotated[bytes, Tail(4096), Names("The message, without the length that TCP puts before it.")]

    def summary(self) -> str:
        said = decode(self.packet, self.size)
        answers = said.get("malformed") or said.get("answers_text") or said.get("rcode_name", "")
        server = f"{address_text(self.peer_family, self.address) or '?'}:{self.port}"
        return printable(
            f"{self.user} {self.pid} {self.program()} <- {server} "
            f"{said.get('query', '?')} {said.get('qtype', '')}: {answers}"
        )


def _returned(call: str, program: str) -> Hook:
    return Hook(program, "tracepoint", f"syscalls:sys_exit_{call}", sees=f"{call}(2)")


def _read(call: str) -> Hook:
    """Where only the end of every read, of any file, can be had."""
    return Hook(
        f"dns_{call}_returned",
        "tracepoint",
        f"syscalls:sys_exit_{call}",
        unless="dns_received",
        sees=f"{call}(2)",
    )


PROBE = Probe(
    event=Dns,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                _returned("recvfrom", "dns_received_from"),
                _returned("recvmsg", "dns_received_message"),
                _returned("recvmmsg", "dns_received_many"),
                Hook(
                    "dns_received",
                    "raw_tracepoint",
                    "sock_recv_length",
                    arguments=3,
                    optional=True,
                    sees="what connected sockets receive, by read(2) and readv(2) too (Linux 6.3)",
                ),
                _read("read"),
                _read("readv"),
                Hook(
                    "dns_by_io_uring",
                    "tracepoint",
                    "io_uring:io_uring_complete",
                    fields=("req",),  # since Linux 5.16
                    optional=True,
                    sees="answers received through io_uring",
                ),
            ),
            tails=(
                TailProgram("dns_report", "tracepoint"),
                TailProgram("dns_report_received", "raw_tracepoint", needs="dns_received"),
            ),
            misses=(
                "32-bit system calls; other ports than 53 and 5353, and so DNS over TLS, HTTPS or QUIC; splice(2); of "
                "io_uring, provided buffers, multishot and fixed files; of a stream, the second message of one read, "
                "and what of a message comes with later reads; messages of recvmmsg(2) beyond the 32nd; "
                "what lies beyond the 16th piece of a scattered buffer; the peer of a socket that is not connected "
                "and whose caller did not ask for it, unless the socket has port 5353: there it is told as unknown"
            ),
        ),
    ),
    structs={
        **SOCKET_STRUCTS,
        "pt_regs": ("orig_ax",),
        "io_kiocb": ("opcode", "file"),
        "io_sr_msg": ("buf?",),
        "io_rw": ("addr?",),
    },
    enumerators=("IORING_OP_RECV", "IORING_OP_RECVMSG", "IORING_OP_READ"),
)
