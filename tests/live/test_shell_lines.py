# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines typed into interactive shells on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector, Event, files_watched
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, run, until
from tests.live.views import SHELL_LINE, caused_by, truncated

PROMPT = b"hookline> "

SHELLS: dict[str, Sequence[str]] = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i", "+o", "promptsp"),
}


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, command: Sequence[str | Path], home: Path) -> None:
        self._terminal, theirs = pty.openpty()
        self.tty = os.ttyname(theirs)
        environment = {"PS1": PROMPT.decode(), "HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb"}
        environment |= {"LC_ALL": "C.UTF-8", "HISTFILE": "/dev/null"}

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
            preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(theirs)
        self._said = b""
        self._prompts = 0
        self.wait_for_prompt()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for_prompt(self) -> None:
        """Until the shell waits for a line."""
        self._prompts += 1
        deadline = time.monotonic() + LIMIT_S
        while self._said.count(PROMPT) < self._prompts:
            assert time.monotonic() < deadline, self._said
            if select.select([self._terminal], [], [], 0.1)[0]:
                self._said += os.read(self._terminal, 65536)

    def type(self, *keys: bytes) -> None:
        """Lines, each with its end; returns when the shell waits for the next one."""
        for each in keys:
            self._said, self._prompts = b"", 0
            os.write(self._terminal, each + b"\r")
            self.wait_for_prompt()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@pytest.fixture(scope="module")
def collector(collector: Collector) -> Collector:
    """One that has found the shells of this host."""
    until(lambda: {"bash", "zle"} <= {*files_watched(collector)}, "the shells")
    return collector


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """An interactive shell of either kind."""
    found = Shell(SHELLS[request.param], tmp_path)
    yield found
    found.close()


def lines(collector: Collector, pid: int) -> list[Event]:
    return caused_by(collector.sync(), pid, SHELL_LINE)


@pytest.mark.guest("shell_line", every=True)
def test_a_line(shell: Shell, collector: Collector) -> None:
    """A line that is typed is one event: the line, the shell, its terminal and its process."""
    shell.type(b"echo one 'two  three' | cat")
    [event] = lines(collector, shell.pid)
    name = Path(str(shell.process.args[0])).name  # type: ignore[index]
    assert event["line"] == "echo one 'two  three' | cat"
    assert event["shell"] == name
    assert event["tty_name"] == shell.tty.removeprefix("/dev/").replace("/", "")
    assert event["exe"] == os.path.realpath(shutil.which(name) or "")
    assert (event["tgid"], event["pid"], event["user"]) == (str(shell.pid), str(shell.pid), "root")
    assert not truncated(event)


def test_each_line_once(shell: Shell, collector: Collector) -> None:
    """Of lines that follow each other, each is told once, in order; an empty line is not."""
    typed = [b"true %d" % number for number in range(20)]
    shell.type(*typed[:10], b"", *typed[10:])
    assert [to_bytes(event["line"]) for event in lines(collector, shell.pid)] == typed


def test_editing(shell: Shell, collector: Collector) -> None:
    """What is told is the line as the shell got it, not the keys: deleted characters are not in it."""
    shell.type(b"true wrnog\x7f\x7f\x7fong", b"lost\x15true kept")
    assert [event["line"] for event in lines(collector, shell.pid)] == ["true wrong", "true kept"]


HOSTILE = {
    "json": b'true \'"},{"data_type":"59\'',
    "utf-8": "true äöü ☃ 日本語 \U0001f600 ƒ†¡".encode(),
    "long": b"true " + b"x" * 2000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_lines(kind: str, shell: Shell, collector: Collector) -> None:
    """Whatever is typed is told byte by byte, and shifts no field."""
    shell.type(HOSTILE[kind])
    [event] = lines(collector, shell.pid)
    assert to_bytes(event["line"]) == HOSTILE[kind]
    assert not truncated(event)


def test_a_line_that_is_too_long(collector: Collector, tmp_path: Path) -> None:
    """Of a line of over 4,095 bytes the first are told, and that it is cut."""
    shell = Shell(SHELLS["bash"], tmp_path)
    try:
        shell.type(b"v=" + b"y" * 6000)
        [event] = lines(collector, shell.pid)
        assert event["line"] == "v=" + "y" * 4093
        assert truncated(event) == {"line"}
    finally:
        shell.close()


@pytest.mark.guest("shell_line", silent=True)
def test_what_is_not_typed(collector: Collector, tmp_path: Path) -> None:
    """Lines of a script, of -c, and of a shell whose input is no terminal are not told."""
    script = tmp_path / "script"
    script.write_text("true 1\ntrue 2\n")
    for name in SHELLS:
        for command in ((name, script), (name, "-c", "true 3; true 4")):
            with subprocess.Popen(command) as process:
                assert process.wait(LIMIT_S) == 0
            assert lines(collector, process.pid) == []
        with subprocess.Popen([name], stdin=subprocess.PIPE) as process:
            process.communicate(b"true 5\n", LIMIT_S)
        assert lines(collector, process.pid) == []


def test_a_shell_that_appears(collector: Collector, tmp_path: Path) -> None:
    """A bash that is put somewhere while the collector runs is found when it begins."""
    folder = tmp_path / f"bash-of-{os.getpid()}"
    folder.mkdir()
    shutil.copy("/bin/bash", folder / "bash")
    shell = Shell([folder / "bash", *SHELLS["bash"][1:]], tmp_path)
    try:
        until(
            lambda: str(folder / "bash") in {line.get("path") for line in collector.wait_for_log("watching a file")},
            "the shell",
        )
        shell.type(b"true found")
        # Its first prompt was there before: that line's editor was called before it could be watched.
        shell.type(b"true told")
        assert lines(collector, shell.pid)[-1]["line"] == "true told"
    finally:
        shell.close()


def test_a_bash_with_a_library(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """A bash whose line editor is in libreadline is told; another program that uses the same library is not."""
    source = tmp_path / "lib.c"
    source.write_text("char *readline(const char *prompt) { return (char *)prompt; }\n")
    library = tmp_path / f"libreadline.so.{os.getpid()}"
    run("gcc", "-shared", "-fPIC", "-O1", "-o", library, source)
    main = tmp_path / "main.c"
    main.write_text(
        "#include <unistd.h>\nextern char *readline(const char *);\n"
        "int main(int n, char **v) { char b; read(0, &b, 1); readline(v[1]); return 0; }\n"
    )
    told = {}
    for name in ("bash", "psql"):
        program = tmp_path / name
        run("gcc", "-O1", "-w", "-o", program, main, library, f"-Wl,-rpath,{tmp_path}")
        with subprocess.Popen(
            [program, f"typed into {name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            if name == "bash":
                until(
                    lambda: str(library) in {line.get("path") for line in collector.wait_for_log("watching a file")},
                    "the library",
                )
            process.communicate(b"\n", LIMIT_S)
        told[name] = [event["line"] for event in lines(collector, process.pid)]
    assert told == {"bash": ["typed into bash"], "psql": []}
