# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that come and go."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Result, Tail, u32, u64
from probes.file.names import NAME_STRUCTS, NAMES_MISS
from probes.probe import Form, Hook, Ladder, Probe, TailProgram
from probes.syscall import returns
from probes.text import error_text, path_text, printable, to_text

CALLS = {165: "mount", 166: "umount", 429: "move_mount"}
"""System calls by number."""


class Mount(ProcessEvent, gc=False):
    """A file system was mounted, moved or unmounted, or failed to be (mount(2), umount2(2), move_mount(2)).

    Failures are told: who was refused tried. With fsopen(2) and open_tree(2) a mount comes into being unseen, and is
    told when move_mount(2) hangs it into the tree.
    """

    data_type = 165
    event_name = "mount"
    dataset = "file"
    category = "file"
    action_type = "change"

    result: Result
    call: Annotated[u32, Names("Number of the system call.", "syscall", "hookline.syscall", "keyword", CALLS)]
    mount_flags: Annotated[u64, Names("The flags of that call.", "flags", "hookline.mount.flags", "long")]
    file_path_walked: Annotated[u32, Names("Bytes of `file_path` that the kernel walked.")]
    dev: Annotated[
        bytes,
        Tail(4096),
        Names("What is mounted, as it was named: a device, a directory, anything.", "dev", "hookline.mount.device"),
    ]
    fstype: Annotated[bytes, Tail(256), Names("Type of the file system.", "fstype", "hookline.mount.type")]
    file_path: Annotated[
        bytes,
        Tail(8192, "path"),
        Names(
            "Where: the directory's path as the kernel walks it, then the name as the caller gave it.",
            "file_path",
            "file.path",
            "wildcard",
        ),
    ]

    def summary(self) -> str:
        where = path_text(self.file_path, self.file_path_walked)
        how = f"failed with {error_text(self.result)}" if self.result else "done"
        call = CALLS.get(self.call, self.call)
        what = "".join(f"{to_text(each)} " for each in (self.fstype, self.dev) if each)
        return printable(f"{self.user} {self.pid} {self.program()} {call} {what}{where} {how} {self.pid_tree}")


def _functions(mechanism: Ladder) -> Form:
    return Form(
        mechanism,
        hooks=(
            Hook("mount_asked", mechanism, "security_sb_mount", sees="mount(2), 32-bit calls too"),
            Hook("mount_umount_asked", mechanism, "security_sb_umount", sees="umount2(2)"),
            Hook("mount_move_asked", mechanism, "security_move_mount", sees="move_mount(2)"),
        ),
        tails=(TailProgram("mount_report", mechanism),),
        misses="whether it was done: it is told before; a call that fails before that; the flags of move_mount(2)",
    )


PROBE = Probe(
    event=Mount,
    forms=(
        _functions("fentry"),
        _functions("kprobe"),
        Form(
            "tracepoint",
            hooks=(
                *returns("mount_returned", "mount"),
                *returns("mount_umounted", "umount"),
                *returns("mount_moved", "move_mount", optional=True),
            ),
            tails=(TailProgram("mount_report", "tracepoint"),),
            misses=f"mount_setattr(2), fsconfig(2) and pivot_root(2); {NAMES_MISS}",
        ),
    ),
    structs={
        **NAME_STRUCTS,
        "mount": ("mnt_devname", "mnt_ns"),
        "vfsmount": ("mnt_sb",),
        "super_block": ("s_type",),
        "file_system_type": ("name",),
    },
)
