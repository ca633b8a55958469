# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that programs look up."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Tail, s32, u32
from probes.probe import Files, Form, Hook, Probe
from probes.text import addresses_text, printable, to_text

LIBC = Files(
    name="libc",
    # glibc, glibc before 2.34 by its real name, musl as Debian, Alpine and others call it
    names=r"libc\.so\.6|libc-2\.[0-9]+\.so|libc\.so|libc\.musl-[a-z0-9_]+\.so\.1|ld-musl-[a-z0-9_]+\.so\.1",
    places=(
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib64/libc.so.6",
        "usr/lib/libc.so.6",
        "lib/ld-musl-x86_64.so.1",
    ),
)


class Resolve(ProcessEvent, gc=False):
    """A program looked up a host name (getaddrinfo(3) of glibc or musl)."""

    data_type = 803
    event_name = "resolve"
    dataset = "dns"
    category = "network"
    action_type = "protocol"

    result: Annotated[
        s32, Names("0, or the negative EAI_ code of a failure (-2: no such name).", "res", "hookline.result", "long")
    ]
    asked_family: Annotated[
        u32, Names("Address family that was asked for, 0: any.", "asked_family", "hookline.resolve.family", "long")
    ]
    host: Annotated[bytes, Tail(1025), Names("Name that was looked up.", "host", "dns.question.name")]
    service: Annotated[bytes, Tail(256), Names("Service or port.", "service", "hookline.resolve.service")]
    resolved_ip: Annotated[
        bytes,
        Tail(640, "addresses"),
        Names(
            "The addresses, each once, in their order; in smith separated by commas.",
            "resolved_ip",
            "dns.resolved_ip",
            "ip",
        ),
    ]

    def summary(self) -> str:
        found = f"failed with {self.result}" if self.result else " ".join(addresses_text(self.resolved_ip))
        return printable(f"{self.user} {self.tgid} {self.program()} {to_text(self.host)} -> {found}")


PROBE = Probe(
    event=Resolve,
    forms=(
        Form(
            "uprobe",
            hooks=(
                Hook("resolve_entered", "uprobe", "getaddrinfo", files=LIBC, sees="what is looked up"),
                Hook("resolve_returned", "uretprobe", "getaddrinfo", files=LIBC, sees="what was found"),
            ),
            misses="statically linked programs, resolvers other than the C library's, 32-bit programs, and what "
            "happens before the first time that a library was seen",
        ),
    ),
)
