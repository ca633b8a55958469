# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that Java programs start."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import BootTime, Names, Tail, s32, u32, u64
from probes.probe import Files, Form, Hook, Probe
from probes.text import error_text, printable, to_text

LIBJAVA = Files(
    name="libjava",
    names=r"libjava\.so",
    places=(
        "../lib/libjava.so",
        "../lib/amd64/libjava.so",
        "usr/lib/jvm/*/lib/libjava.so",
        "usr/lib/jvm/*/jre/lib/amd64/libjava.so",
        "opt/*/lib/libjava.so",
        "opt/java/*/lib/libjava.so",
    ),
    programs=r"java|jshell|jspawnhelper",
)

FORK_AND_EXEC = "Java_java_lang_ProcessImpl_forkAndExec|Java_java_lang_UNIXProcess_forkAndExec"
"""What every JDK since 7 exports, since Java's own code finds it by its name; the second is of JDK 8 and before."""

MODES = {1: "fork", 2: "posix_spawn", 3: "vfork", 4: "clone"}


class JavaExec(ProcessEvent, gc=False):
    """A Java program started a process, or failed to (Runtime.exec, ProcessBuilder)."""

    data_type = 804
    event_name = "java_exec"
    dataset = "process"
    category = "process"
    action_type = "start"
    subject = "process.parent"

    result: Annotated[
        s32,
        Names(
            "0, or the negative errno of the execution that failed; -10 (ECHILD) where there was none.",
            "res",
            "hookline.result",
            "long",
        ),
    ]
    mode: Annotated[
        u32,
        Names(
            "How the JDK starts processes: 1 fork, 2 posix_spawn, 3 vfork, 4 clone.",
            "mode",
            "hookline.java.mode",
            labels=MODES,
        ),
    ]
    child_tgid: Annotated[u32, Names("Process id of the child, 0: none.", "child_tgid", "process.pid", "long")]
    child_start_time: Annotated[
        u64, BootTime(), Names("Start of the child, ns since boot.", "child_start_time", "process.start", "date")
    ]
    command: Annotated[
        bytes, Tail(4096), Names("Path that was executed, or tried last.", "command", "hookline.process.filename")
    ]
    argv: Annotated[bytes, Tail(8192, "argv"), Names("Arguments, joined by spaces in smith.", "argv", "process.args")]

    def summary(self) -> str:
        command = to_text(self.argv.rstrip(b"\0").replace(b"\0", b" "))
        how = f"failed with {error_text(self.result)}" if self.result else f"-> {self.child_tgid}"
        mode = MODES.get(self.mode, str(self.mode))
        return printable(f"{self.user} {self.tgid} {self.program()} {mode} {how} [{command}]")


PROBE = Probe(
    event=JavaExec,
    forms=(
        Form(
            "uprobe",
            hooks=(
                Hook("java_exec_entered", "uprobe", FORK_AND_EXEC, files=LIBJAVA, sees="who starts a process, and how"),
                Hook("java_exec_returned", "uretprobe", FORK_AND_EXEC, files=LIBJAVA, sees="what became of it"),
                Hook("java_exec_tries", "tracepoint", "syscalls:sys_enter_execve", sees="the child's arguments"),
                Hook("java_exec_fails", "tracepoint", "syscalls:sys_exit_execve", sees="why an execution failed"),
                Hook("java_exec_runs", "raw_tracepoint", "sched_process_exec", sees="that the child's program runs"),
            ),
            misses="processes that native code of a Java program starts by itself, JDKs that are linked statically "
            "(GraalVM native images), arguments beyond the 128th, and what a JDK does before it was first seen",
        ),
    ),
)
