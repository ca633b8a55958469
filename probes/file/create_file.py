# SPDX-License-Identifier: GPL-2.0-or-later
"""New files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from probes.event import UNKNOWN, ProcessEvent
from probes.fields import HashedFile, Names, Opaque, Tail, s32, u32, u64
from probes.probe import Form, Hook, Ladder, Mechanism, Probe, TailProgram
from probes.process.socket_owner import (
    SOCKET_FIELDS,
    SOCKET_OWNER_STRUCTS,
    SocketOwner,
    SocketProcess,
    SocketProcessExe,
    SocketProcessMd5,
)
from probes.text import printable, to_text


class CreateFile(ProcessEvent, gc=False):
    """An open created a file that was not there before."""

    data_type = 602
    event_name = "create_file"
    dataset = "file"
    category = "file"
    action_type = "creation"
    hashed_file = HashedFile("created", "path", "create_file_md5", "create_file_hash_status", "create_file_sha256")
    derived = SOCKET_FIELDS

    fd: Annotated[s32, Names("Descriptor of the new file; -1: not known.", None, "hookline.file.fd", "long")]
    device: Annotated[u32, Names("Device, in the kernel's encoding.", None, "hookline.file.device", "long")]
    inode: Annotated[u64, Names("Inode number.", None, "file.inode")]
    mode: Annotated[u32, Names("Type and permission bits.", None, "hookline.file.mode", "long")]
    open_flags: Annotated[u32, Names("Flags of the open file.", None, "hookline.file.flags", "long")]
    created: Annotated[bytes, Opaque("hl_created_id", 24), Names("Identity of the file: see `CreatedId`.")]
    path: Annotated[
        bytes,
        Tail(4096),
        Names("Path in the mount namespace.", "file_path", "file.path", "wildcard"),
    ]
    socket: SocketOwner
    socket_process_exe: SocketProcessExe
    socket_process_exe_md5: SocketProcessMd5
    create_file_md5: Annotated[
        str, Names("MD5 of the file, once its creator has closed it.", "create_file_md5", "file.hash.md5")
    ] = UNKNOWN
    create_file_sha256: Annotated[
        str, Names("SHA-256 of the same, with `enrich.hashes.sha256`.", "create_file_sha256", "file.hash.sha256")
    ] = UNKNOWN
    create_file_hash_status: Annotated[
        str,
        Names(
            "Why `create_file_md5` can be trusted or is missing, as `exe_hash_status`; open: its creator still wrote "
            "to it after `enrich.hashes.close_wait_s`.",
            "create_file_hash_status",
            "hookline.file.hash_status",
        ),
    ] = UNKNOWN
    socket_process: SocketProcess = ""

    def summary(self) -> str:
        return printable(f"{self.user} {self.pid} {self.program()} created {to_text(self.path)} {self.pid_tree}")


def _opened(call: str, *, optional: bool = False) -> Hook:
    return Hook("create_file_opened", "tracepoint", f"syscalls:sys_exit_{call}", optional=optional, sees=f"{call}(2)")


_RETURN_PROBES = (
    "opens that return while more are under way than the kernel keeps return probes for (twice the number of CPUs, at "
    "least 10)"
)


def _function(name: Ladder, mechanism: Mechanism, misses: str) -> Iterator[Form]:
    """At the function that opens for all others, by the names that it has had."""
    for function in ("do_filp_open", "do_file_open"):
        yield Form(
            name,
            hooks=(Hook("create_file_open_returned", mechanism, function, sees="every open, the kernel's own too"),),
            tails=(TailProgram("create_file_report", mechanism), TailProgram("create_file_socket", mechanism)),
            misses=f"mknod(2), which descriptor the file got{misses}",
        )


PROBE = Probe(
    event=CreateFile,
    forms=(
        *_function("fentry", "fexit", ""),
        *_function("kprobe", "kretprobe", f", and {_RETURN_PROBES}"),
        Form(
            "tracepoint",
            hooks=(
                _opened("openat"),
                _opened("open"),
                _opened("openat2", optional=True),
                _opened("creat"),
                Hook(
                    "create_file_by_io_uring",
                    "tracepoint",
                    "io_uring:io_uring_complete",
                    fields=("req",),  # since Linux 5.16
                    optional=True,
                    sees="files created through io_uring",
                ),
            ),
            tails=(TailProgram("create_file_report", "tracepoint"), TailProgram("create_file_socket", "tracepoint")),
            misses=(
                "mknod(2), 32-bit system calls, files made by the kernel itself, io_uring opens into a fixed-file "
                "slot, and a file whose descriptor another thread closes before the open has returned"
            ),
        ),
    ),
    structs={
        **SOCKET_OWNER_STRUCTS,
        "file": ("f_mode", "f_flags", *SOCKET_OWNER_STRUCTS["file"]),
        "inode": ("i_mode", "i_generation"),
        "io_kiocb": ("opcode",),
    },
    enumerators=("IORING_OP_OPENAT", "IORING_OP_OPENAT2"),
)
