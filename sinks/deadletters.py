# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that a receiver refuses for good, each with the reason, in a private file that can be replayed.

One JSON object a line: ``time`` (ISO 8601, UTC), ``sink``, ``reason``, ``event``
(the document as it was sent). Every call blocks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

_CHUNK = 1 << 20


class DeadLetter(msgspec.Struct, frozen=True):
    """One refused event."""

    sink: str
    reason: str
    event: msgspec.Raw
    """Its JSON, byte for byte."""

    time: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


class DeadLetters:
    """Appends to `path`, mode 0600. At `max_bytes` the file becomes ``PATH.1``, and what was there is deleted."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._max_bytes = max_bytes
        self._encoder = msgspec.json.Encoder()
        self.written = 0
        """Letters since the start."""

        self.overwritten = 0
        """Letters that were in ``PATH.1`` when a rotation put the next ones there."""

    def append(self, letters: Iterable[DeadLetter]) -> None:
        """Keep `letters`; on the disk on return.

        Raises:
            OSError: they cannot be written; none of them counts as kept then.
        """
        lines = [self._encoder.encode(letter) + b"\n" for letter in letters]
        with self._open() as file:
            start = file.seek(0, os.SEEK_END)
            if start and os.pread(file.fileno(), 1, start - 1) != b"\n":  # a crash left a line unfinished
                file.write(b"\n")
            try:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), start)
                raise
        self.written += len(lines)

    def statistics(self) -> Mapping[str, int]:
        """Counters of a sink: letters that were written, and those that rotations overwrote."""
        return {"dead_letters": self.written, "dead_letters_overwritten": self.overwritten}

    def _open(self) -> IO[bytes]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self._path.stat().st_size >= self._max_bytes:
                gone = _lines_in(self._older)
                os.replace(self._path, self._older)
                self.overwritten += gone
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            file = open(fd, "ab", buffering=1 << 16)  # noqa: SIM115 - the caller closes it
            # A replay may have renamed the file just now; it reads under the same lock.
            fcntl.flock(fd, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), self._path.stat()):
                    return file
            file.close()


def _lines_in(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(partial(file.read, _CHUNK), b""))
    except FileNotFoundError:
        return 0


def read(path: Path, damaged: Callable[[str, bytes], None]) -> Iterator[DeadLetter]:
    """The letters in `path`, oldest first, those of ``PATH.1`` before them.

    `damaged` is told of each line that is none: a sentence with file and number, and the line.

    Raises:
        OSError: `path` cannot be read.
    """
    decoder = msgspec.json.Decoder(DeadLetter)
    older = path.with_name(f"{path.name}.1")
    for each in (older, path) if older.exists() else (path,):
        with each.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    letter = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    damaged(f"{each}: line {number} is no dead letter: {error}", line)
                else:
                    yield letter
