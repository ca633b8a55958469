# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes of renamed, linked and removed files share; the kernel side is ``names.h``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from probes.event import ProcessEvent
from probes.fields import Names, Tail, u32
from probes.probe import Form, Hook, TailProgram
from probes.syscall import function_forms
from probes.text import path_text, printable

NAME_STRUCTS = {"fs_struct": ("pwd", "root"), "mount": ("mnt_ns",)}
"""Kernel structs and members behind ``names.h``."""

NAMES_MISS = (
    "the same by io_uring, by 32-bit system calls and by the kernel itself; where symbolic links in the caller's part "
    "of a name lead; what a name was before another thread of the caller rewrote it, or moved the directory, between "
    "the call's own look at it and its return"
)
"""What events with names of ``Tail(..., "path")`` cannot know at the return of a system call."""


def name_forms(name: str, returned: tuple[Hook, ...], *, misses: str = "") -> tuple[Form, ...]:
    """The forms of a probe of names: at ``security_path_NAME()``, else at the `returned` system calls."""
    more = f"; {misses}" if misses else ""
    return (
        *function_forms(
            name,
            [f"security_path_{name}"],
            sees="every one that the kernel is about to do for a process, io_uring's and 32-bit calls too",
            misses=f"whether it then failed after all: it is told before it is done{more}",
        ),
        Form(
            "tracepoint", hooks=returned, tails=(TailProgram(f"{name}_report", "tracepoint"),), misses=NAMES_MISS + more
        ),
    )


class Removed(ProcessEvent, gc=False):
    """A name is gone."""

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

    what: ClassVar[str] = ""
    """Between "removed" and the path, for people."""

    def summary(self) -> str:
        path = path_text(self.file, self.file_walked)
        return printable(f"{self.user} {self.pid} {self.program()} removed {self.what}{path}")
