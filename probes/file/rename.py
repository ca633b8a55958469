# SPDX-License-Identifier: GPL-2.0-or-later
"""Renamed and moved files."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Tail, u32
from probes.file.names import NAME_STRUCTS, name_forms
from probes.probe import Probe
from probes.syscall import returns
from probes.text import path_text, printable


class Rename(ProcessEvent, gc=False):
    """A file or directory got another name, or two exchanged theirs (rename(2), renameat(2), renameat2(2)).

    Failures are not told: nothing happened to a file.
    """

    data_type = 82
    event_name = "rename"
    dataset = "file"
    category = "file"
    action_type = "change"

    rename_flags: Annotated[
        u32,
        Names("Of renameat2(2): 1 replaced nothing, 2 exchanged, 4 left a whiteout.", "flags", "hookline.rename.flags"),
    ]
    old_name_walked: Annotated[u32, Names("Bytes of `old_name` that the kernel walked.")]
    new_name_walked: Annotated[u32, Names("Bytes of `new_name` that the kernel walked.")]
    old_name: Annotated[
        bytes,
        Tail(8192, "path"),
        Names(
            "Path that it had: the directory's as the kernel walks it, then the name as the caller gave it.",
            "old_name",
            "hookline.file.original_path",
            "wildcard",
        ),
    ]
    new_name: Annotated[
        bytes, Tail(8192, "path"), Names("Path that it has now, in the same way.", "new_name", "file.path", "wildcard")
    ]

    def summary(self) -> str:
        old = path_text(self.old_name, self.old_name_walked)
        new = path_text(self.new_name, self.new_name_walked)
        return printable(f"{self.user} {self.pid} {self.program()} renamed {old} to {new}")


PROBE = Probe(
    event=Rename,
    forms=name_forms("rename", returns("rename_returned", "rename", "renameat", "renameat2")),
    structs=NAME_STRUCTS,
)
