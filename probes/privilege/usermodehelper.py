# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that the kernel itself runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from probes.event import ProcessEvent
from probes.fields import Names, Tail, s32
from probes.probe import Form, Hook, Probe
from probes.text import printable, to_text

_WAIT = {-1: "", 0: "no_wait", 1: "exec", 2: "process"}


class Usermodehelper(ProcessEvent, gc=False):
    """The kernel ran a program of its own accord: for a core dump, a module, a key, a device.

    The process is the one that made it do so, or, seen at the tracepoint, the program itself.
    """

    data_type = 607
    event_name = "usermodehelper"
    dataset = "process"
    category = "process"
    action_type = "start"

    renamed: ClassVar[Mapping[str, str]] = {"exe": "caller_exe"}
    """`exe` is what ran, as with Elkeid."""

    wait: Annotated[
        s32,
        Names(
            "What the kernel waits for (UMH_* of linux/umh.h), -1: not known.",
            "wait",
            "hookline.usermodehelper.wait",
            "keyword",
            _WAIT,
        ),
    ]
    helper: Annotated[
        bytes, Tail(4096), Names("Path of what ran.", "exe", "hookline.usermodehelper.executable", "wildcard")
    ]
    argv: Annotated[
        bytes, Tail(32768, "argv"), Names("Its arguments, joined by spaces.", "argv", "hookline.usermodehelper.args")
    ]

    def summary(self) -> str:
        command = to_text(self.argv.rstrip(b"\0").replace(b"\0", b" "))
        return printable(f"{self.pid} {to_text(self.comm.rstrip(bytes(1)))} -> {to_text(self.helper)} [{command}]")


PROBE = Probe(
    event=Usermodehelper,
    forms=(
        Form(
            "fentry",
            hooks=(Hook("usermodehelper_entered", "fentry", "call_usermodehelper_exec", sees="who caused it"),),
            structs={"subprocess_info": ("path", "argv")},
        ),
        Form(
            "kprobe",
            hooks=(Hook("usermodehelper_called", "kprobe", "call_usermodehelper_exec", sees="who caused it"),),
            structs={"subprocess_info": ("path", "argv")},
        ),
        Form(
            "tracepoint",
            hooks=(Hook("usermodehelper_executed", "raw_tracepoint", "sched_process_exec", sees="what has begun"),),
            structs={
                "task_struct": ("flags", "self_exec_id"),
                "linux_binprm": ("filename",),
                "mm_struct": ("arg_start", "arg_end"),
            },
            misses="who caused it, whether it is waited for, and programs that could not be started",
        ),
    ),
)
