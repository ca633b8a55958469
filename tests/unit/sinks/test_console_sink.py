# SPDX-License-Identifier: GPL-2.0-or-later
"""The console sink on pipes, files and terminals."""

from __future__ import annotations

import fcntl
import os
import resource
import struct
import sys
import termios
from typing import TYPE_CHECKING

import msgspec
import pytest

from sinks.console.sink import open_sink
from sinks.protocol import SinkError, SinkUnavailable
from tests.unit.sinks.doubles import Batch, Event, batch, console_config

if TYPE_CHECKING:
    from pathlib import Path

MUCH = batch(*range(20_000))
LINES = Batch((1, 2), (Event(text="ls -l"), Event(text="x" * 200)))


async def test_pipe_gets_ndjson(pipe: tuple[int, int]) -> None:
    """By default what goes into a pipe is NDJSON of the schema, byte for byte."""
    async with open_sink(console_config(schema="ecs"), fd=pipe[1]) as sink:
        await sink.deliver(LINES)
        await sink.reopen()
        assert sink.statistics() == {
            "batches": 1,
            "lines": 2,
            "bytes": len(LINES.encoded("ecs")),
            "write_errors": 0,
        }
    assert os.read(pipe[0], 65_536) == LINES.encoded("ecs")


async def test_lines_into_a_pipe(pipe: tuple[int, int]) -> None:
    """Readable lines that are asked for are neither coloured nor cut where there is no terminal."""
    async with open_sink(console_config(format="line"), fd=pipe[1]) as sink:
        await sink.deliver(LINES)
    first, second, rest = os.read(pipe[0], 65_536).decode().split("\n")
    assert first.endswith("execve           ls -l")
    assert second.endswith("x" * 200)
    assert rest == ""


async def test_terminal_gets_lines(terminal: tuple[int, int]) -> None:
    """By default a terminal gets coloured lines, cut to its width."""
    async with open_sink(console_config(), fd=terminal[1]) as sink:
        await sink.deliver(LINES)
        first, second, _ = os.read(terminal[0], 65_536).decode().split("\r\n")
    assert "\x1b[" in first
    assert first.endswith("\x1b[0m ls -l")
    assert second.endswith("x…")
    assert second.count("x") < 40


async def test_width_is_asked_for_anew(terminal: tuple[int, int]) -> None:
    """After the window was made wider, lines are longer; a terminal that says 0 columns gets them whole."""
    async with open_sink(console_config(), fd=terminal[1]) as sink:
        lengths = []
        for columns in (40, 80, 0):
            fcntl.ioctl(terminal[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            await sink.deliver(Batch((), (Event(text="y" * 200),)))
            lengths.append(os.read(terminal[0], 65_536).count(b"y"))
    assert 0 < lengths[0] == lengths[1] - 40
    assert lengths[2] == 200


async def test_wide(terminal: tuple[int, int]) -> None:
    """``wide`` lets lines be longer than the terminal."""
    async with open_sink(console_config(wide=True), fd=terminal[1]) as sink:
        await sink.deliver(LINES)
        assert b"x" * 200 in os.read(terminal[0], 65_536)


async def test_ndjson_on_a_terminal(terminal: tuple[int, int]) -> None:
    """``json`` is NDJSON on a terminal, too."""
    async with open_sink(console_config(format="json"), fd=terminal[1]) as sink:
        await sink.deliver(LINES)
        seen = os.read(terminal[0], 65_536)
    assert seen.replace(b"\r\n", b"\n") == LINES.encoded("smith")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
async def test_no_colour(terminal: tuple[int, int], monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """NO_COLOR and a dumb terminal turn colour off, and nothing else."""
    monkeypatch.setenv(name, value)
    async with open_sink(console_config(), fd=terminal[1]) as sink:
        await sink.deliver(LINES)
        seen = os.read(terminal[0], 65_536)
    assert b"\x1b" not in seen
    assert b"x\xe2\x80\xa6\r\n" in seen


async def test_full_disk_behind_a_redirection(tmp_path: Path) -> None:
    """Into a file that can grow no more, the batch is refused with the reason and can be offered again."""
    path = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with path.open("wb") as file:
        async with open_sink(console_config(), fd=file.fileno()) as sink:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
            try:
                with pytest.raises(SinkUnavailable, match="File too large"):
                    await sink.deliver(MUCH)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await sink.deliver(MUCH)
            assert sink.statistics()["write_errors"] == 1
    lines = path.read_bytes().splitlines(keepends=True)
    repeated = len(lines) - len(MUCH)
    assert repeated > 0
    assert b"".join(lines[repeated:]) == MUCH.encoded("smith")
    assert lines[:repeated] == lines[repeated : 2 * repeated]


async def test_standard_output_is_the_default(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a descriptor the sink writes to standard output, after what was printed before."""
    with os.fdopen(os.dup(1), "w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        print("hello")
        async with open_sink(console_config()) as sink:
            await sink.deliver(batch(1))
    assert capfd.readouterr().out.encode() == b"hello\n" + batch(1).encoded("smith")


async def test_closed_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without standard output gets an error with a remedy."""
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SinkError, match="standard output is closed; redirect it"):
        async with open_sink(console_config()):
            pass


def test_defaults_and_wrong_settings() -> None:
    """``auto`` and cut lines are the defaults; unknown formats and keys are errors."""
    assert (console_config().format, console_config().wide, console_config().schema) == (
        "auto",
        False,
        "smith",
    )
    for wrong in ({"format": "xml"}, {"colour": True}, {"type": "file"}):
        with pytest.raises(msgspec.ValidationError):
            console_config(**wrong)
