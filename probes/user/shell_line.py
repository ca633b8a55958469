# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that people type into shells."""

from __future__ import annotations

from typing import Annotated

from probes.event import ProcessEvent
from probes.fields import Chars, Names, Tail, u8
from probes.probe import Files, Form, Hook, Probe
from probes.text import cstring_text, printable, typed_text

BASH = Files(
    name="bash",
    names=r"r?bash",
    places=("bin/bash", "usr/bin/bash", "usr/local/bin/bash"),
    programs=r"-?(?:r?bash|sh)",
)

READLINE = Files(
    name="libreadline",
    names=r"libreadline\.so\.[0-9.]+",
    places=("usr/lib/libreadline.so.8", "lib/x86_64-linux-gnu/libreadline.so.8", "lib64/libreadline.so.8"),
    programs=BASH.programs,
)

ZLE = Files(
    name="zle",
    names=r"zle\.so",
    places=("usr/lib/*/zsh/*/zsh/zle.so", "usr/lib/zsh/*/zsh/zle.so", "usr/lib64/zsh/*/zsh/zle.so"),
    programs=r"-?zsh[0-9.-]*",
)


class ShellLine(ProcessEvent, gc=False):
    """Somebody typed a line into an interactive shell (bash, zsh)."""

    data_type = 805
    event_name = "shell_line"
    dataset = "process"
    category = "process"
    action_type = "info"

    shell: Annotated[bytes, Chars(8), Names("Which line editor it was: bash or zsh.", "shell", "hookline.shell.name")]
    line_metafied: Annotated[u8, Names("Whether the line is encoded as zsh keeps it.")]
    line: Annotated[
        bytes, Tail(4096, "typed"), Names("The line, without its end.", "line", "process.command_line", "wildcard")
    ]

    def summary(self) -> str:
        where = f"{self.user} {self.tgid} {cstring_text(self.shell)} on {cstring_text(self.tty) or 'no terminal'}"
        return printable(f"{where}: {typed_text(self.line, self.line_metafied)}")


PROBE = Probe(
    event=ShellLine,
    forms=(
        Form(
            "uprobe",
            hooks=(
                Hook("shell_line_bash", "uretprobe", "readline", files=BASH, sees="lines of bash"),
                Hook(
                    "shell_line_readline",
                    "uretprobe",
                    "readline",
                    files=READLINE,
                    sees="lines of a bash that has its line editor from a library",
                ),
                Hook("shell_line_zsh", "uretprobe", "zleread", files=ZLE, sees="lines of zsh"),
            ),
            misses="shells without a line editor (dash, bash --noediting), other shells, a bash under another name, "
            "statically linked ones, and what is typed before the first time that a shell's file was seen",
        ),
    ),
)
