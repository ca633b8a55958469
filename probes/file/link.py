# SPDX-License-Identifier: GPL-2.0-or-later
"""Further names of files."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Tail, u32
from probes.file.names import NAME_STRUCTS, name_forms
from probes.probe import Probe
from probes.syscall import returns
from probes.text import path_text, printable


class Link(ProcessEvent, gc=False):
    """A file got a further name, a hard link (link(2), linkat(2)).

    Failures are not told: nothing happened to a file. Symbolic links are not told either: they are files of their own
    and name what may not even be there.
    """

    data_type = 86
    event_name = "link"
    dataset = "file"
    category = "file"
    action_type = "creation"

    old_name_walked: Annotated[u32, Names("Bytes of `old_name` that the kernel walked.")]
    new_name_walked: Annotated[u32, Names("Bytes of `new_name` that the kernel walked.")]
    old_name: Annotated[
        bytes,
        Tail(8192, "path"),
        Names(
            "Path of the file: the directory's as the kernel walks it, then the name as the caller gave it.",
            "old_name",
            "hookline.file.original_path",
            "wildcard",
        ),
    ]
    new_name: Annotated[
        bytes, Tail(8192, "path"), Names("The further path, in the same way.", "new_name", "file.path", "wildcard")
    ]

    def summary(self) -> str:
        old = path_text(self.old_name, self.old_name_walked)
        new = path_text(self.new_name, self.new_name_walked)
        return printable(f"{self.user} {self.pid} {self.program()} linked {old} to {new}")


PROBE = Probe(
    event=Link,
    forms=name_forms("link", returns("link_returned", "link", "linkat"), misses="symbolic links"),
    structs=NAME_STRUCTS,
)
