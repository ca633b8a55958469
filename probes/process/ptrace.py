# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that others take hold of, or change."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Chars, Hex, Names, Result, s32, u32, u64
from probes.probe import Form, Probe
from probes.process.signals import AskedPid
from probes.syscall import returns
from probes.text import error_text, printable

REQUESTS = {
    4: "POKETEXT",
    5: "POKEDATA",
    6: "POKEUSR",
    13: "SETREGS",
    15: "SETFPREGS",
    16: "ATTACH",
    0x4205: "SETREGSET",
    0x4206: "SEIZE",
}
"""The requests that are told, as ptrace(2) calls them."""


class Ptrace(ProcessEvent, gc=False):
    """A process took hold of another, or changed its memory or registers, or failed to (ptrace(2)).

    Told are the requests POKETEXT, POKEDATA, POKEUSR, ATTACH, SEIZE, SETREGS, SETFPREGS and SETREGSET; the seed systems
    told the first two alone. Reading (PEEK and GET), going on, and TRACEME, which a process asks for itself, are not.
    Failures are told: who was refused (-1, EPERM) tried.
    """

    data_type = 101
    event_name = "ptrace"
    dataset = "process"
    category = "process"
    action_type = "access"

    result: Result
    request: Annotated[u32, Names("The request.", "ptrace_request", "hookline.ptrace.request", "keyword", REQUESTS)]
    target_pid: Annotated[
        s32,
        Names(
            "Thread that was traced, as the host numbers it; 0: not known, for it is gone, or there is none.",
            "target_pid",
            "hookline.target.pid",
            "long",
        ),
    ]
    asked_pid: AskedPid
    addr: Annotated[
        u64, Hex(), Names("The third argument: where in the other process.", "addr", "hookline.ptrace.address")
    ]
    word: Annotated[
        u64,
        Hex(),
        Names(
            "The fourth argument: the word that was written, or what else the request takes.",
            "word",
            "hookline.ptrace.word",
        ),
    ]
    data: Annotated[
        bytes,
        Chars(8),
        Names("That word as text, up to a NUL, of the POKE requests.", "data", "hookline.ptrace.data"),
    ]

    def summary(self) -> str:
        how = f"failed with {error_text(self.result)}" if self.result else "done"
        request = REQUESTS.get(self.request, self.request)
        return printable(f"{self.user} {self.pid} {self.program()} {request} {self.target_pid} {how} {self.pid_tree}")


PROBE = Probe(
    event=Ptrace,
    forms=(
        Form(
            "tracepoint",
            hooks=returns("ptrace_returned", "ptrace"),
            misses="32-bit system calls; process_vm_writev(2) and /proc/PID/mem, which write to other processes too; "
            "the host's number of a target of another pid namespace that is gone before the call returns",
        ),
    ),
)
