# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends of processes."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, u32
from probes.probe import Form, Hook, Probe
from probes.text import printable


class Exit(ProcessEvent, gc=False):
    """A process ended: the last of its threads is gone."""

    data_type = 60
    event_name = "exit"
    dataset = "process"
    category = "process"
    action_type = "end"

    exit_code: Annotated[u32, Names("What it gave to exit(2), 0 to 255.", "exit_code", "process.exit_code", "long")]
    signal: Annotated[
        u32, Names("The signal that ended it, 0: none.", "signal", "hookline.process.exit_signal", "long")
    ]

    def summary(self) -> str:
        how = f"signal {self.signal}" if self.signal else f"code {self.exit_code}"
        return printable(f"{self.user} {self.tgid} {self.program()} ended with {how}")


PROBE = Probe(
    event=Exit,
    forms=(
        Form(
            "tracepoint",
            hooks=(Hook("exit_process", "raw_tracepoint", "sched_process_exit", sees="the end of every process"),),
        ),
    ),
    structs={
        "task_struct": ("exit_code",),
        "signal_struct": ("live", "flags", "group_exit_code"),
    },
)
