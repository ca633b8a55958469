# SPDX-License-Identifier: GPL-2.0-or-later
"""The event that says which events are missing."""

from __future__ import annotations

from typing import Annotated

from probes.event import HostEvent
from probes.fields import Names


class Gap(HostEvent, gc=False):
    """Consecutive events of one kind on one CPU are missing. `sequence` counts the gaps."""

    data_type = 900
    event_name = "gap"
    dataset = "agent"
    category = "host"
    action_type = "info"

    lost_kind: Annotated[int, Names("data_type of the missing events.", "kind", "hookline.gap.kind", "long")]
    lost_cpu: Annotated[int, Names("CPU of the missing events.", "cpu", "hookline.gap.cpu", "long")]
    first: Annotated[int, Names("First missing sequence number.", "first", "hookline.gap.first", "long")]
    last: Annotated[int, Names("Last missing sequence number.", "last", "hookline.gap.last", "long")]
    cause: Annotated[
        str,
        Names("kernel_ring, or unknown where malformed records occurred too.", "cause", "hookline.gap.cause"),
    ]

    def summary(self) -> str:
        return f"kind {self.lost_kind} on cpu {self.cpu}: {self.first} to {self.last} missing ({self.cause})"
