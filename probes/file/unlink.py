# SPDX-License-Identifier: GPL-2.0-or-later
"""Removed files."""

from __future__ import annotations

from probes.file.names import NAME_STRUCTS, Removed, name_forms
from probes.probe import Probe
from probes.syscall import returns


class Unlink(Removed, gc=False):
    """A name of a file was removed (unlink(2), unlinkat(2)); directories are `rmdir`.

    Failures are not told: nothing happened to a file.
    """

    data_type = 605
    event_name = "unlink"


PROBE = Probe(
    event=Unlink,
    forms=name_forms("unlink", returns("unlink_returned", "unlink", "unlinkat")),
    structs=NAME_STRUCTS,
    default=False,
)
