# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that threads give themselves."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Chars, Names, u32
from probes.probe import Form, Probe
from probes.syscall import returns
from probes.text import cstring_text, printable


class Prctl(ProcessEvent, gc=False):
    """A thread gave itself another name (prctl(2) with PR_SET_NAME); other options are not told.

    It fails only for an address that cannot be read, and then nothing happened. `comm` is the new name already.
    """

    data_type = 157
    event_name = "prctl"
    dataset = "process"
    category = "process"
    action_type = "change"

    option: Annotated[u32, Names("15, PR_SET_NAME.", "option", "hookline.prctl.option", "long")]
    new_name: Annotated[
        bytes,
        Chars(16),
        Names("The name, cut to 15 bytes as the kernel cuts it.", "new_name", "hookline.prctl.new_name"),
    ]

    def summary(self) -> str:
        name = cstring_text(self.new_name)
        return printable(f"{self.user} {self.pid} {self.program()} is called {name}")


PROBE = Probe(
    event=Prctl,
    forms=(
        Form(
            "tracepoint",
            hooks=returns("prctl_returned", "prctl"),
            misses="32-bit system calls; names written to /proc/PID/comm, which is how one thread names another",
        ),
    ),
)
