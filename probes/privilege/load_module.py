# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules that enter the kernel."""

from __future__ import annotations

from typing import Annotated

from probes.event import UNKNOWN, ProcessEvent
from probes.fields import Chars, HashedFile, Names, Opaque, Tail, s32, u64
from probes.probe import Form, Hook, Mechanism, Probe, TailProgram
from probes.text import cstring_text, error_text, printable, to_text


class LoadModule(ProcessEvent, gc=False):
    """A module is about to run in the kernel, or was refused, or its start failed (finit_module(2), init_module(2)).

    It is told before its first instruction runs; a module whose own start fails is told again, with the errno.
    """

    data_type = 603
    event_name = "load_module"
    dataset = "process"
    category = "driver"
    action_type = "start"
    hashed_file = HashedFile("file", "lkm_file", "load_file_md5", "load_file_hash_status", "load_file_sha256")

    result: Annotated[
        s32,
        Names("0: it is about to run; the negative errno of a failure.", "res", "hookline.result", "long"),
    ]
    fd: Annotated[
        s32, Names("Descriptor of its file; -1: from memory (init_module).", "fd", "hookline.module.fd", "long")
    ]
    taints: Annotated[
        u64, Names("What it taints the kernel with, as bits (TAINT_*).", "taints", "hookline.module.taints", "long")
    ]
    file: Annotated[bytes, Opaque("hl_file_id", 40), Names("Identity of its file: see `FileId`; zeros: none.")]
    module_name: Annotated[bytes, Chars(56), Names("Name that it gives itself.", "module_name", "hookline.module.name")]
    lkm_file: Annotated[
        bytes, Tail(4096), Names("Path of its file in the mount namespace.", "lkm_file", "file.path", "wildcard")
    ]
    run_path: Annotated[bytes, Tail(4096), Names("Working directory.", "run_path", "process.working_directory")]
    load_file_md5: Annotated[str, Names("MD5 of its file.", "load_file_md5", "file.hash.md5")] = UNKNOWN
    load_file_sha256: Annotated[
        str, Names("SHA-256 of its file, with `enrich.hashes.sha256`.", "load_file_sha256", "file.hash.sha256")
    ] = UNKNOWN
    load_file_hash_status: Annotated[
        str,
        Names(
            "Why `load_file_md5` can be trusted or is missing, as `exe_hash_status`.",
            "load_file_hash_status",
            "hookline.module.hash_status",
        ),
    ] = UNKNOWN

    def summary(self) -> str:
        what = f"{cstring_text(self.module_name) or 'a module'} from {to_text(self.lkm_file) or 'memory'}"
        how = f"failed with {error_text(self.result)}" if self.result else "loads"
        return printable(f"{self.user} {self.pid} {self.program()}: {what} {how} {self.pid_tree}")


def _call(name: str, *, optional: bool) -> tuple[Hook, Hook]:
    enter, leave = (f"syscalls:sys_{way}_{name}" for way in ("enter", "exit"))
    return (
        Hook("load_module_asked", "tracepoint", enter, optional=optional, sees=f"the descriptor of {name}(2)"),
        Hook("load_module_returned", "tracepoint", leave, optional=optional, sees=f"failures of {name}(2)"),
    )


_HOOKS = (
    Hook("load_module_loaded", "raw_tracepoint", "module_load", sees="modules that are about to run"),
    *_call("finit_module", optional=False),
    *_call("init_module", optional=True),
)
_TAILS = (
    TailProgram("load_module_loaded_paths", "raw_tracepoint"),
    TailProgram("load_module_refused_paths", "tracepoint"),
)
_COMPAT = "failures of 32-bit system calls"


def _reading(mechanism: Mechanism) -> Hook:
    return Hook("load_module_read", mechanism, "security_kernel_read_file", sees="which file the kernel reads")


PROBE = Probe(
    event=LoadModule,
    forms=(
        Form("fentry", hooks=(_reading("fentry"), *_HOOKS), tails=_TAILS, misses=_COMPAT),
        Form("kprobe", hooks=(_reading("kprobe"), *_HOOKS), tails=_TAILS, misses=_COMPAT),
        Form(
            "tracepoint",
            hooks=_HOOKS,
            tails=_TAILS,
            misses=f"{_COMPAT}; the file of a caller who exchanges the descriptor during the call",
        ),
    ),
    structs={"module": ("name", "taints"), "fs_struct": ("pwd",)},
    enumerators=("READING_MODULE",),
)
