# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of the sinks feed them, and how they look at what came out."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import trio
import zstandard

from sinks.console import ConsoleConfig
from sinks.file import FileConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from sinks.protocol import Schema, Sink

DEADLINE_S = 30.0
NOON = 1_700_049_600.0
"""2023-11-15 12:00:00 UTC, in seconds since the epoch."""
LEAVE_ALONE: dict[str, Any] = {"rotate_bytes": 0, "rotate_age_s": 0, "fsync": "never"}


@dataclass
class Event:
    kind: int = 2
    time_ns: int = 1_000_000_123_456_789
    label: str = "execve"
    text: str = "ls -l"

    def name(self) -> str:
        return self.label

    def summary(self) -> str:
        return self.text


class Clock:
    """A wall clock that stands still until the test moves it."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Batch:
    numbers: tuple[int, ...]
    events: tuple[Event, ...] = ()
    boot_offset_ns: int = 1_699_000_000_000_000_000
    padding: int = 0

    def encoded(self, schema: Schema) -> bytes:
        return b"".join(
            b'{"n":%d,"schema":"%s","pad":"%s"}\n' % (number, schema.encode(), b"x" * self.padding)
            for number in self.numbers
        )

    def pieces(self, schema: Schema) -> list[bytes]:
        return [self.encoded(schema)]

    def __len__(self) -> int:
        return len(self.numbers) or len(self.events)


def batch(*numbers: int, padding: int = 0) -> Batch:
    """Lines that carry these numbers."""
    return Batch(numbers, padding=padding)


def file_config(path: Path, **settings: Any) -> FileConfig:
    """As the configuration file would give it: nothing turns over unless the test says so."""
    return msgspec.convert({"type": "file", "path": str(path), **LEAVE_ALONE, **settings}, FileConfig)


def console_config(**settings: Any) -> ConsoleConfig:
    """As the configuration file would give it."""
    return msgspec.convert({"type": "console", **settings}, ConsoleConfig)


def rotated(path: Path) -> list[Path]:
    """The rotated files of ``path`` in the order of rotation."""
    shape = re.compile(r"events-(\d{8}T\d{6}Z)-(\d+)\.ndjson(\.zst)?")
    matches = [(shape.fullmatch(file.name), file) for file in path.parent.iterdir()]
    return [file for _, _, file in sorted((match[1], int(match[2]), file) for match, file in matches if match)]


def content(file: Path) -> bytes:
    """The bytes of a file, decompressed if its name says so."""
    if file.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(file.read_bytes()).read()
    return file.read_bytes()


def numbers_in(files: Iterable[Path]) -> list[int]:
    """The numbers of all lines, every one of which must be whole."""
    data = b"".join(content(file) for file in files)
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["n"] for line in data.splitlines()]


def everything(path: Path) -> list[int]:
    """The numbers in the rotated files and then the current one."""
    return numbers_in([*rotated(path), *([path] if path.exists() else [])])


async def until(condition: Callable[[], bool]) -> None:
    """Return once a worker thread has made ``condition`` true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition never became true"
        await trio.lowlevel.checkpoint()


async def until_counted(sink: Sink, **wanted: int) -> Mapping[str, int]:
    """The sink's statistics once they have these values."""
    await until(lambda: all(sink.statistics()[key] == value for key, value in wanted.items()))
    return sink.statistics()
