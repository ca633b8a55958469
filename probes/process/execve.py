# SPDX-License-Identifier: GPL-2.0-or-later
"""Executions: what ran, or failed to run, with its arguments."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Names, Own, Result, Tail, Variable, u32, u64
from probes.probe import Form, Hook, Ladder, Mechanism, Probe, TailProgram
from probes.process.socket_owner import (
    SOCKET_FIELDS,
    SOCKET_OWNER_STRUCTS,
    SocketOwner,
    SocketProcess,
    SocketProcessExe,
    SocketProcessMd5,
)
from probes.text import error_text, printable, to_text


class Execve(ProcessEvent, gc=False):
    """A process executed a program, or failed to (execve(2), execveat(2))."""

    data_type = 59
    event_name = "execve"
    dataset = "process"
    category = "process"
    action_type = "start"
    environment_limit = 2048
    derived = SOCKET_FIELDS

    result: Result
    stdin_mode: Annotated[u32, Names("Type and permission bits of descriptor 0, 0: closed.")]
    stdout_mode: Annotated[u32, Names("Type and permission bits of descriptor 1, 0: closed.")]
    stdin_inode: Annotated[u64, Names("Inode number of descriptor 0.")]
    stdout_inode: Annotated[u64, Names("Inode number of descriptor 1.")]
    filename: Annotated[
        bytes,
        Tail(4096),
        Names("Path as the caller named it; of a script, the script.", "filename", "hookline.process.filename"),
    ]
    exe_path: Annotated[bytes, Tail(4096), Names("Path of the new image; after a failure, of the caller's.")]
    run_path: Annotated[bytes, Tail(4096), Names("Working directory.", "run_path", "process.working_directory")]
    stdin: Annotated[bytes, Tail(4096, "open_file"), Names("What descriptor 0 is.", "stdin", "hookline.process.stdin")]
    stdout: Annotated[
        bytes, Tail(4096, "open_file"), Names("What descriptor 1 is.", "stdout", "hookline.process.stdout")
    ]
    socket: SocketOwner
    argv: Annotated[
        bytes, Tail(32768, "argv"), Own(), Names("Arguments, joined by spaces in smith.", "argv", "process.args")
    ]
    ssh_connection: Annotated[
        bytes,
        Variable("SSH_CONNECTION"),
        Names("SSH_CONNECTION of the new image.", "SSH_CONNECTION", "hookline.process.ssh_connection"),
    ]
    ld_preload: Annotated[
        bytes,
        Variable("LD_PRELOAD"),
        Names("LD_PRELOAD of the new image.", "LD_PRELOAD", "hookline.process.ld_preload"),
    ]
    socket_process_exe: SocketProcessExe
    socket_process_exe_md5: SocketProcessMd5
    socket_process: SocketProcess = ""

    def summary(self) -> str:
        command = to_text(self.argv.rstrip(b"\0").replace(b"\0", b" "))
        if self.result:
            asked = to_text(self.filename)
            return printable(f"{self.user} {self.pid} failed: {asked} {error_text(self.result)} [{command}]")
        tail = f"md5 {self.exe_md5} {self.pid_tree}"
        return printable(f"{self.user} {self.pid} {self.program()} [{command}] {tail}")


def _failed(call: str) -> Hook:
    return Hook(
        "execve_failed",
        "tracepoint",
        f"syscalls:sys_exit_{call}",
        optional=True,
        sees=f"failed {call}(2)",
    )


def _form(name: Ladder, mechanism: Mechanism, target: str) -> Form:
    return Form(
        name,
        hooks=(
            Hook("execve_succeeded", mechanism, target, sees="every successful execution"),
            _failed("execve"),
            _failed("execveat"),
        ),
        tails=(
            TailProgram("execve_succeeded_paths", mechanism),
            TailProgram("execve_succeeded_socket", mechanism),
            TailProgram("execve_failed_paths", "tracepoint", needs="execve_failed"),
        ),
        misses="failures of 32-bit system calls; of a failure the connection, and arguments beyond the 256th",
    )


PROBE = Probe(
    event=Execve,
    forms=(
        _form("tracepoint", "raw_tracepoint", "sched_process_exec"),
        _form("fentry", "fentry", "finalize_exec"),
        _form("kprobe", "kprobe", "finalize_exec"),
    ),
    structs={
        **SOCKET_OWNER_STRUCTS,
        "linux_binprm": ("filename",),
        "mm_struct": ("arg_start", "arg_end", "env_start", "env_end"),
        "fs_struct": ("pwd",),
        "inode": ("i_mode",),
    },
)
