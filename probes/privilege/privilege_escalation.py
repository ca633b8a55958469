# SPDX-License-Identifier: GPL-2.0-or-later
"""Root that nothing legal has made so."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import IDS, Names, u32
from probes.probe import Form, Hook, Probe
from probes.text import ids_text, printable

_SEEN_AT = {1: "fork", 2: "execve", 3: "set_ids"}


class PrivilegeEscalation(ProcessEvent, gc=False):
    """A thread has a user or group id 0 that it neither had nor could take, such as an exploit gives.

    Set-user-ID programs (sudo, su), file capabilities and root's own children are legal, whatever they are called,
    and not told.
    """

    data_type = 611
    event_name = "privilege_escalation"
    dataset = "process"
    category = "intrusion_detection"
    action_type = "info"

    p_pid: Annotated[
        u32,
        Names(
            "Process id of its parent, or of the parent's own if the parent is root.",
            "p_pid",
            "hookline.ancestor.pid",
            "long",
        ),
    ]
    seen_at: Annotated[
        u32,
        Names("When it was seen.", "seen_at", "hookline.credentials.seen_at", "keyword", _SEEN_AT, "seen_at_name"),
    ]
    p_cred: Annotated[
        bytes,
        IDS,
        Names("uid|euid|suid|fsuid|gid|egid|sgid|fsgid of that one.", "p_cred", "hookline.ancestor.ids"),
    ]
    c_cred: Annotated[bytes, IDS, Names("The same of the thread itself.", "c_cred", "hookline.credentials.ids")]
    old_cred: Annotated[
        bytes, IDS, Names("The same of the thread when it was last seen.", "old_cred", "hookline.credentials.old_ids")
    ]

    def summary(self) -> str:
        was, now = ids_text(self.old_cred), ids_text(self.c_cred)
        return printable(f"{self.pid} {self.program()} was {was} and is {now} {self.pid_tree}")


def _after(call: str) -> Hook:
    return Hook(
        "privilege_escalation_ids_set", "tracepoint", f"syscalls:sys_exit_{call}", optional=True, sees=f"at {call}(2)"
    )


PROBE = Probe(
    event=PrivilegeEscalation,
    forms=(
        Form(
            "tracepoint",
            hooks=(
                Hook("privilege_escalation_forked", "raw_tracepoint", "sched_process_fork", sees="at every new thread"),
                Hook("privilege_escalation_executed", "raw_tracepoint", "sched_process_exec", sees="at executions"),
                *map(_after, ("setuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid")),
            ),
            misses=(
                "a thread that neither forks, executes nor sets its ids after it became root; one that was there "
                "before the collector and has not forked since; capabilities without an id 0; effective ids where "
                "the program that is executed is set-user-ID itself; the oldest where there are over 32,768 threads"
            ),
        ),
    ),
    structs={
        "task_struct": ("real_cred",),
        "cred": ("suid", "fsuid", "egid", "sgid", "fsgid", "cap_permitted", "user_ns"),
        "user_namespace": ("uid_map.extent", "gid_map.extent"),
        "linux_binprm": ("per_clear",),
    },
)
