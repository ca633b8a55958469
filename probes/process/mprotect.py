# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that becomes executable."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Hex, Names, Tail, u32, u64
from probes.probe import Form, Probe, TailProgram
from probes.syscall import function_forms, returns
from probes.text import printable, to_text


class Mprotect(ProcessEvent, gc=False):
    """A process made memory executable (mprotect(2), pkey_mprotect(2) with PROT_EXEC).

    Failures are not told: the memory is as it was.
    """

    data_type = 10
    event_name = "mprotect"
    dataset = "process"
    category = "process"
    action_type = "change"

    start: Annotated[u64, Hex(), Names("First address.", "start", "hookline.memory.start")]
    length: Annotated[u64, Names("Bytes of it.", "len", "hookline.memory.length", "long")]
    prot: Annotated[u32, Names("Bits: 1 read, 2 write, 4 execute.", "prot", "hookline.memory.protection", "long")]
    owner_pid: Annotated[
        u32, Names("Process that the memory belongs to.", "owner_pid", "hookline.memory.owner_pid", "long")
    ]
    vm_file: Annotated[
        bytes,
        Tail(4096),
        Names("File that is mapped at `start`; unknown: none.", "vm_file", "hookline.memory.file", "wildcard"),
    ]

    def summary(self) -> str:
        what = to_text(self.vm_file) or "memory"
        return printable(
            f"{self.user} {self.pid} {self.program()} made {self.length} bytes of {what} at {self.start:#x} "
            f"executable, protection {self.prot}"
        )


PROBE = Probe(
    event=Mprotect,
    forms=(
        *function_forms(
            "mprotect",
            ["security_file_mprotect"],
            sees="each area of memory that the kernel is about to make executable, as far as it was asked for",
            misses="whether it was refused or failed after all: it is told before it is done",
        ),
        Form(
            "tracepoint",
            hooks=returns("mprotect_returned", "mprotect", "pkey_mprotect"),
            tails=(TailProgram("mprotect_report", "tracepoint"),),
            structs={
                "mm_struct": ("mm_mt.ma_root?", "mm_rb.rb_node?"),
                "maple_range_64": ("pivot?", "slot?"),
                "maple_arange_64": ("pivot?", "slot?"),
                "rb_node": ("rb_left", "rb_right"),
                "vm_area_struct": ("vm_rb?",),
            },
            misses="32-bit system calls; files mapped behind the one at `start`; mmap(2) with PROT_EXEC; a personality "
            "that makes readable memory executable; the file where another thread maps another before the return",
        ),
    ),
    structs={
        "backing_file": ("user_path?",),
        "mm_struct": ("owner?",),
        "mount": ("mnt_ns",),
        "vfsmount": ("mnt_flags",),
        "vm_area_struct": ("vm_file", "vm_mm", "vm_start", "vm_end"),
    },
    default=False,
)
