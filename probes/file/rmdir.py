# SPDX-License-Identifier: GPL-2.0-or-later
"""Removed directories."""

from __future__ import annotations

from typing import Annotated

from probes.event import Names, ProcessEvent, Tail, u32
from probes.file.names import NAME_STRUCTS, name_forms
from probes.probe import Probe
from probes.syscall import returns
from probes.text import path_text, printable, to_text


class Rmdir(ProcessEvent, gc=False):
    """A directory was removed (rmdir(2), unlinkat(2) with AT_REMOVEDIR).

    Failures are not told: nothing happened to a directory.
    """

    data_type = 606
    event_name = "rmdir"
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
        return printable(f"{self.user} {self.pid} {to_text(self.exe)} removed the directory {path}")


PROBE = Probe(
    event=Rmdir,
    forms=name_forms("rmdir", returns("rmdir_returned", "rmdir", "unlinkat")),
    structs=NAME_STRUCTS,
    default=False,
)
