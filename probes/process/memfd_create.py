# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in memory."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Tail, s32, u32
from probes.probe import Form, Probe
from probes.syscall import returns
from probes.text import printable, to_text


class MemfdCreate(ProcessEvent, gc=False):
    """A process made a file that lies in no directory (memfd_create(2)).

    Failures are not told: there is no file then.
    """

    data_type = 356
    event_name = "memfd_create"
    dataset = "file"
    category = "file"
    action_type = "creation"

    fd: Annotated[s32, Names("Its descriptor.", "fd", "hookline.file.fd", "long")]
    memfd_flags: Annotated[
        u32,
        Names(
            "1 closed on exec, 2 seals allowed, 4 huge pages, 8 not executable.",
            "flags",
            "hookline.memfd.flags",
            "long",
        ),
    ]
    fdname: Annotated[
        bytes, Tail(256), Names("Its name, as the kernel keeps it; it may be empty.", "fdname", "file.name")
    ]

    def summary(self) -> str:
        return printable(f"{self.user} {self.pid} {self.program()} made {to_text(self.fdname)} in memory")


PROBE = Probe(
    event=MemfdCreate,
    forms=(
        Form(
            "tracepoint",
            hooks=returns("memfd_create_returned", "memfd_create"),
            misses="32-bit system calls; memfd_secret(2) and O_TMPFILE, which make files without a path too; the name "
            "where another thread closes the descriptor before the call has returned",
        ),
    ),
)
