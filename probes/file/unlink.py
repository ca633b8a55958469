# SPDX-License-Identifier: GPL-2.0-or-later
"""Removed files."""

from __future__ import annotations

from typing import Annotated

from probes.event import Names, ProcessEvent, Tail, u32
from probes.file.names import NAME_STRUCTS, name_forms
from probes.probe import Probe
from probes.syscall import returns
from probes.text import path_text, printable, to_text


class Unlink(ProcessEvent, gc=False):
    """A name of a file was removed (unlink(2), unlinkat(2)); directories are `rmdir`.

    Failures are not told: nothing happened to a file.
    """

    data_type = 605
    event_name = "unlink"
    dataset = "file"
    category = "file"
    action_type = "deletion"

    file_walked: Annotated[u32, Names("Bytes of `file` that the kernel walked.")]
    file: Annotated[
        bytes,
        Tail(8192, "path"),
        Names(
            "Path that is gone: the directory's as the kernel walks it, then the name as the caller gave it.",
            "file",
            "file.path",
            "wildcard",
        ),
    ]

    def summary(self) -> str:
        path = path_text(self.file, self.file_walked)
        return printable(f"{self.user} {self.pid} {to_text(self.exe)} removed {path}")


PROBE = Probe(
    event=Unlink,
    forms=name_forms("unlink", returns("unlink_returned", "unlink", "unlinkat")),
    structs=NAME_STRUCTS,
    default=False,
)
