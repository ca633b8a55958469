# SPDX-License-Identifier: GPL-2.0-or-later
"""New processes."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import BootTime, Names, Tail, u32, u64
from probes.probe import Form, Hook, Probe
from probes.text import printable


class Fork(ProcessEvent, gc=False):
    """A process made another (fork, vfork, clone, clone3); threads are not told."""

    data_type = 801
    event_name = "fork"
    dataset = "process"
    category = "process"
    action_type = "start"
    subject = "process.parent"

    child_pid: Annotated[u32, Names("Thread id of the child.", "child_pid", "process.thread.id", "long")]
    child_tgid: Annotated[u32, Names("Process id of the child.", "child_tgid", "process.pid", "long")]
    child_start_time: Annotated[
        u64, BootTime(), Names("Start of the child, ns since boot.", "start_time", "process.start", "date")
    ]
    grandparent_pid: Annotated[
        u32,
        Names("Thread id of the parent's parent.", "grandparent_pid", "hookline.grandparent.thread_id", "long"),
    ]
    grandparent_tgid: Annotated[
        u32,
        Names("Process id of the parent's parent.", "grandparent_tgid", "hookline.grandparent.pid", "long"),
    ]
    uts_inum: Annotated[u32, Names("Inode of the UTS namespace.", "uts_inum", "hookline.namespace.uts", "long")]
    cmdline: Annotated[
        bytes, Tail(256, "argv"), Names("First arguments of the parent.", "cmdline", "process.parent.args")
    ]

    def summary(self) -> str:
        return printable(f"{self.user} {self.tgid} {self.program()} -> {self.child_tgid}")


PROBE = Probe(
    event=Fork,
    forms=(
        Form(
            "tracepoint",
            hooks=(Hook("fork_process", "raw_tracepoint", "sched_process_fork", sees="every new process"),),
        ),
    ),
    structs={"mm_struct": ("arg_start", "arg_end"), "uts_namespace": ("ns.inum",)},
)
