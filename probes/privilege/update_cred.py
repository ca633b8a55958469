# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that become root."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, s32, u32
from probes.probe import Form, Hook, Mechanism, Probe
from probes.text import printable

_IN_MEMORY = (
    "credentials that are overwritten in the kernel's memory, as by an exploit: privilege_escalation tells of "
    "these when the process next forks or executes"
)


class UpdateCred(ProcessEvent, gc=False):
    """A process whose real user id was not 0 became root, as sudo and su do, and exploits.

    What runs a set-user-ID program has root's effective id alone until that program asks for more.
    """

    data_type = 604
    event_name = "update_cred"
    dataset = "process"
    category = "iam"
    action_type = "change"

    result: Annotated[s32, Names("0: the kernel never refuses at this point.", "res", "hookline.result", "long")]
    old_uid: Annotated[u32, Names("Real user id before.", "old_uid", "hookline.user.old.id")]
    old_euid: Annotated[u32, Names("Effective user id before.", "old_euid", "hookline.user.old.effective_id")]

    def summary(self) -> str:
        return printable(f"{self.user} {self.pid} {self.program()} was user {self.old_uid} {self.pid_tree}")


def _around(call: str) -> tuple[Hook, Hook]:
    return (
        Hook("update_cred_changes", "tracepoint", f"syscalls:sys_enter_{call}", sees=f"who calls {call}(2)"),
        Hook("update_cred_changed", "tracepoint", f"syscalls:sys_exit_{call}", sees=f"whom {call}(2) made root"),
    )


def _around_commit(before: Mechanism, after: Mechanism) -> tuple[Hook, Hook]:
    return (
        Hook("update_cred_changes", before, "commit_creds", sees="whose credentials change"),
        Hook("update_cred_changed", after, "commit_creds", sees="who became root, in whatever way"),
    )


PROBE = Probe(
    event=UpdateCred,
    forms=(
        Form("fentry", hooks=_around_commit("fentry", "fexit"), misses=_IN_MEMORY),
        Form("kprobe", hooks=_around_commit("kprobe", "kretprobe"), misses=_IN_MEMORY),
        Form(
            "tracepoint",
            hooks=(*_around("setuid"), *_around("setreuid"), *_around("setresuid")),
            misses=f"32-bit system calls, what commit_creds() is called for inside the kernel, and {_IN_MEMORY}",
        ),
    ),
    structs={"task_struct": ("real_cred",)},
)
