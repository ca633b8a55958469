# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals to processes."""

from __future__ import annotations

from probes.probe import Form, Probe
from probes.process.signals import MISSES, Signal
from probes.syscall import returns


class Kill(Signal, gc=False):
    """A process sent a signal to a process or a process group, or failed to.

    Signal 0, which is none and only asks whether somebody is there, is not told. Failures are.
    """

    data_type = 62
    event_name = "kill"


PROBE = Probe(
    event=Kill,
    forms=(
        Form(
            "tracepoint",
            hooks=returns("kill_returned", "kill", "rt_sigqueueinfo", "pidfd_send_signal"),
            misses=f"{MISSES}; whom a directory of /proc stands for",
        ),
    ),
    structs={"file": ("private_data",), "inode": ("i_private",)},
    default=False,
)
