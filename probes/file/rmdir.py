# SPDX-License-Identifier: GPL-2.0-or-later
"""Removed directories."""

from __future__ import annotations

from probes.file.names import NAME_STRUCTS, Removed, name_forms
from probes.probe import Probe
from probes.syscall import returns


class Rmdir(Removed, gc=False):
    """A directory was removed (rmdir(2), unlinkat(2) with AT_REMOVEDIR).

    Failures are not told: nothing happened to a directory.
    """

    data_type = 606
    event_name = "rmdir"
    what = "the directory "


PROBE = Probe(
    event=Rmdir,
    forms=name_forms("rmdir", returns("rmdir_returned", "rmdir", "unlinkat")),
    structs=NAME_STRUCTS,
    default=False,
)
