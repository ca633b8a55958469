# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes of signals have alike."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Result, s32, u32
from probes.text import error_text, printable

CALLS = {
    62: "kill",
    129: "rt_sigqueueinfo",
    200: "tkill",
    234: "tgkill",
    297: "rt_tgsigqueueinfo",
    424: "pidfd_send_signal",
}
"""System calls by number."""

MISSES = (
    "32-bit system calls; signals of the kernel, of timers and of terminals; the host's number of a target of another "
    "pid namespace that is gone before the call returns"
)

AskedPid = Annotated[
    s32,
    Names(
        "The same as the caller named it, in its own pid namespace.", "target_ns_pid", "hookline.target.ns_pid", "long"
    ),
]
"""Behind a ``target_pid``."""


class Signal(ProcessEvent, gc=False):
    """A signal was sent, or was to be. Signal 0, which is none and only asks whether somebody is there, is not told."""

    dataset = "process"
    category = "process"
    action_type = "change"

    result: Result
    call: Annotated[u32, Names("Number of the system call.", "syscall", "hookline.syscall", "keyword", CALLS)]
    target_pid: Annotated[
        s32,
        Names(
            "Process or thread, as the host numbers it; negative: a process group; -1: all that the caller may signal; "
            "0: not known, for it is gone, or there is none.",
            "target_pid",
            "hookline.target.pid",
            "long",
        ),
    ]
    asked_pid: AskedPid
    signal: Annotated[u32, Names("Number of the signal.", "sig", "hookline.signal", "long")]

    def summary(self) -> str:
        how = f"failed with {error_text(self.result)}" if self.result else "sent"
        return printable(f"{self.user} {self.pid} {self.program()} signal {self.signal} to {self.target_pid} {how}")
