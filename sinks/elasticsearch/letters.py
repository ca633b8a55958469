# SPDX-License-Identifier: GPL-2.0-or-later
"""Dead letters sent again."""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sinks import deadletters
from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.elasticsearch.sink import open_sink
from sinks.protocol import EventView, Schema

_AT_ONCE = 1000


@dataclass(frozen=True)
class _Documents:
    """A batch of what was a batch before."""

    lines: list[bytes]
    events: tuple[EventView, ...] = ()
    boot_offset_ns: int = 0

    def encoded(self, _schema: Schema) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)

    def pieces(self, schema: Schema) -> list[bytes]:
        return [self.encoded(schema)]

    def __len__(self) -> int:
        return len(self.lines)


async def replay(config: ElasticsearchConfig) -> tuple[int, int]:
    """Send every letter of ``config.dead_letter_file`` again; gives those delivered and those refused again.

    What is refused again is in the file anew. Where the server goes away meanwhile, nothing is lost: what was set
    aside is the next replay's.

    Raises:
        SinkUnavailable: the server takes nothing now.
        SinkError, OSError, msgspec.DecodeError: credentials or the file cannot be read.
    """
    path = Path(config.dead_letter_file)
    sent = again = 0
    async with open_sink(config) as sink:
        for aside in _set_aside(path):
            for letters in _chunks(deadletters.read(aside)):
                dead = await sink.deliver(_Documents([bytes(letter.event) for letter in letters]))
                refused = sum((dead or {}).values())
                sent, again = sent + len(letters) - refused, again + refused
            aside.unlink()
    return sent, again


def _chunks(letters: Iterator[deadletters.DeadLetter]) -> Iterator[list[deadletters.DeadLetter]]:
    while some := list(itertools.islice(letters, _AT_ONCE)):
        yield some


def _set_aside(path: Path) -> Iterator[Path]:
    """Files that no collector writes any more, the oldest first."""
    for name in (f"{path.name}.1", path.name):
        source, aside = path.with_name(name), path.with_name(f"{name}.replaying")
        if not aside.exists():
            with suppress(FileNotFoundError):
                source.rename(aside)
        if aside.exists():
            # A collector that opened it before it was renamed writes under this lock.
            with aside.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                os.fsync(file.fileno())
            yield aside
