# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals to threads."""

from __future__ import annotations

from probes.probe import Form, Probe
from probes.process.signals import MISSES, Signal
from probes.syscall import returns


class Tkill(Signal, gc=False):
    """A process sent a signal to a thread, or failed to.

    Signal 0, which is none and only asks whether somebody is there, is not told. Failures are.
    """

    data_type = 200
    event_name = "tkill"


PROBE = Probe(
    event=Tkill,
    forms=(Form("tracepoint", hooks=returns("tkill_returned", "tkill", "tgkill", "rt_tgsigqueueinfo"), misses=MISSES),),
    default=False,
)
