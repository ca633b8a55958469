# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals to threads."""

from __future__ import annotations

from typing import Annotated

from probes.event import Names, ProcessEvent, s32, u32
from probes.probe import Form, Probe
from probes.syscall import returns
from probes.text import printable, to_text

CALLS = {200: "tkill", 234: "tgkill", 297: "rt_tgsigqueueinfo"}
"""System calls by number."""


class Tkill(ProcessEvent, gc=False):
    """A process sent a signal to a thread, or failed to.

    Signal 0, which is none and only asks whether somebody is there, is not told. Failures are.
    """

    data_type = 200
    event_name = "tkill"
    dataset = "process"
    category = "process"
    action_type = "change"

    result: Annotated[s32, Names("0, or the negative errno of a failure.", "res", "hookline.result", "long")]
    call: Annotated[u32, Names("Number of the system call.", "syscall", "hookline.syscall", "keyword", CALLS)]
    target_pid: Annotated[
        s32,
        Names(
            "Thread, as the host numbers it; 0: not known, for it is gone, or there is none.",
            "target_pid",
            "hookline.target.pid",
            "long",
        ),
    ]
    asked_pid: Annotated[
        s32,
        Names(
            "The same as the caller named it, in its own pid namespace.",
            "target_ns_pid",
            "hookline.target.ns_pid",
            "long",
        ),
    ]
    signal: Annotated[u32, Names("Number of the signal.", "sig", "hookline.signal", "long")]

    def summary(self) -> str:
        how = f"failed with errno {-self.result}" if self.result else "sent"
        return printable(f"{self.user} {self.pid} {to_text(self.exe)} signal {self.signal} to {self.target_pid} {how}")


PROBE = Probe(
    event=Tkill,
    forms=(
        Form(
            "tracepoint",
            hooks=returns("tkill_returned", "tkill", "tgkill", "rt_tgsigqueueinfo"),
            misses="32-bit system calls; signals of the kernel, of timers and of terminals; the host's number of a "
            "target of another pid namespace that is gone before the call returns",
        ),
    ),
    default=False,
)
