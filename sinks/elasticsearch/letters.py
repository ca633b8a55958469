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

import msgspec

from sinks import deadletters
from sinks.elasticsearch.bulk import is_document
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


@dataclass
class Replayed:
    """What became of the letters."""

    delivered: int = 0
    refused: int = 0
    """Again; they are in the file anew."""

    damaged: int = 0
    """Lines that are no letters, or hold no document: they are in ``FILE.damaged`` now."""


async def replay(config: ElasticsearchConfig) -> Replayed:
    """Send every letter of ``config.dead_letter_file`` again.

    Where the server goes away meanwhile, nothing is lost: what was set aside is the next replay's.

    Raises:
        SinkUnavailable: the server takes nothing now.
        SinkError, OSError: credentials or the file cannot be read.
    """
    path = Path(config.dead_letter_file)
    outcome = Replayed()
    async with open_sink(config) as sink:
        for aside in _set_aside(path):
            damaged: list[bytes] = []
            for documents in _chunks(_documents(aside, damaged)):
                dead = await sink.deliver(_Documents(documents))
                refused = sum((dead or {}).values())
                outcome.delivered += len(documents) - refused
                outcome.refused += refused
            _keep(damaged, path.with_name(f"{path.name}.damaged"))
            outcome.damaged += len(damaged)
            aside.unlink()
    return outcome


def _documents(path: Path, damaged: list[bytes]) -> Iterator[bytes]:
    """Those of the letters in `path`; lines that have none go to `damaged`."""
    for letter in deadletters.read(path, lambda _sentence, line: damaged.append(line)):
        document = bytes(letter.event)
        if is_document(document):
            yield document
        else:
            damaged.append(msgspec.json.encode(letter))


def _keep(lines: list[bytes], path: Path) -> None:
    if not lines:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "ab") as file:
        file.writelines(line.rstrip(b"\n") + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _chunks(documents: Iterator[bytes]) -> Iterator[list[bytes]]:
    while some := list(itertools.islice(documents, _AT_ONCE)):
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
