# SPDX-License-Identifier: GPL-2.0-or-later
"""New sessions."""

from __future__ import annotations

from probes.event import ProcessEvent
from probes.fields import Result
from probes.probe import Form, Probe
from probes.syscall import returns
from probes.text import error_text, printable


class Setsid(ProcessEvent, gc=False):
    """A process began a session of its own, or failed to (setsid(2))."""

    data_type = 112
    event_name = "setsid"
    dataset = "process"
    category = "process"
    action_type = "change"

    result: Result

    def summary(self) -> str:
        how = f"failed with {error_text(self.result)}" if self.result else f"leads session {self.sid}"
        return printable(f"{self.user} {self.tgid} {self.program()} {how}")


PROBE = Probe(
    event=Setsid,
    forms=(Form("tracepoint", hooks=returns("setsid_returned", "setsid"), misses="32-bit system calls"),),
)
