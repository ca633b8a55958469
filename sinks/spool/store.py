# SPDX-License-Identifier: GPL-2.0-or-later
"""The spool: every call blocks, and one thread at a time may call.

A row is one batch for one sink, compressed, under a number that says its place.
What a caller holds in memory as well is ``held``: it is never given up to make
room, for it is being delivered.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from sinks.protocol import SinkError
from sinks.spool import SpoolFull
from sinks.spool.config import SpoolConfig

Counts = Mapping[int, int]
"""Events by kind."""

_FORM = 1
"""``user_version``: what the tables mean. A file of another form is set aside, as a damaged one is."""

_TABLES = """
CREATE TABLE batch (
    sink TEXT NOT NULL,
    number INTEGER NOT NULL,
    stored REAL NOT NULL,
    counts TEXT NOT NULL,
    lines BLOB NOT NULL,
    PRIMARY KEY (sink, number)
);
CREATE INDEX batch_stored ON batch (stored);
"""

_COMPRESSION = 1
_PAGE_OVERHEAD = 512
"""Bytes that a row takes beside its lines, about."""


class Stored(NamedTuple):
    """One batch of the spool."""

    number: int
    counts: Counts
    lines: bytes
    stored: float
    """When, in seconds since the epoch."""


class Spool:
    """Batches by sink, oldest first. `lost(sink, counts)` is told of each that is given up."""

    def __init__(
        self, config: SpoolConfig, *, lost: Callable[[str, Counts], None], now: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._path = Path(config.path)
        self._lost = lost
        self._now = now
        self._held: set[tuple[str, int]] = set()
        self._delete_errors = 0
        self._gone: set[tuple[str, int]] = set()
        """Rows that could not be deleted yet, for that needs room on the disk too; nobody sees them any more."""

        self._batches: Counter[str] = Counter()
        self._bytes = 0
        self._pack = zstandard.ZstdCompressor(level=_COMPRESSION, write_checksum=True)
        self._unpack = zstandard.ZstdDecompressor()
        self._next = 1
        self.set_aside: Path | None = None
        """Where a file went that was no spool, or a damaged one."""

    def open(self) -> None:
        """Open or create the file.

        Raises:
            SinkError: it cannot be opened, or another collector has it; one sentence with the remedy.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connect()
        except sqlite3.DatabaseError as error:
            if _is_locked(error):
                raise SinkError(f"spool.path: {self._path} is in use by another collector: name another file") from None
            if isinstance(error, sqlite3.OperationalError) and not _is_damaged(error):
                raise SinkError(f"spool.path: {self._path} cannot be opened: {error}") from None
            self._put_aside()
            self._connect()
        except OSError as error:
            raise SinkError(f"spool.path: {self._path} cannot be opened: {error.strerror}") from None

    def _connect(self) -> None:
        # SQLite would create it by the umask.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        database = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            (form,) = database.execute("PRAGMA user_version").fetchone()
            (known,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not known:
                database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {_FORM}; COMMIT;")
            elif form != _FORM:
                raise sqlite3.DatabaseError("another form")
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            for sink, batches, size, last in database.execute(
                "SELECT sink, count(*), sum(length(lines)), max(number) FROM batch GROUP BY sink"
            ):
                self._batches[sink] = batches
                self._bytes += size + batches * _PAGE_OVERHEAD
                self._next = max(self._next, last + 1)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _put_aside(self) -> None:
        """Move a file that is no sound spool out of the way; nothing of it is deleted."""
        self._batches.clear()
        self._bytes = 0
        self.set_aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        os.rename(self._path, self.set_aside)
        for end in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.rename(f"{self._path}{end}", f"{self.set_aside}{end}")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def number(self) -> int:
        """The next batch's place; ascending over restarts."""
        number, self._next = self._next, self._next + 1
        return number

    def put(
        self, sink: str, number: int, counts: Counts, lines: bytes, *, held: bool = False, durable: bool = False
    ) -> None:
        """Keep a batch for `sink`; `durable`: it is on the disk on return, and not only with the kernel.

        Raises:
            SpoolFull: there is no room for it, and nothing else was given up for it.
        """
        packed = self._pack.compress(lines)
        size = len(packed) + _PAGE_OVERHEAD
        self._forget_old()
        if self._bytes + size > self._config.max_bytes and not self._make_room(size):
            raise SpoolFull(f"the spool holds {self._config.max_bytes:,} bytes (spool.max_bytes)")
        row = (sink, number, self._now(), msgspec.json.encode(dict(counts)).decode(), packed)
        try:
            self._database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._database.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?)", row)
        except sqlite3.OperationalError as error:
            raise SpoolFull(str(error)) from None
        self._batches[sink] += 1
        self._bytes += size
        if held:
            self._held.add((sink, number))

    def _make_room(self, size: int) -> bool:
        """Give up the oldest batches if the configuration says so; whether `size` bytes then fit."""
        if self._config.when_full != "drop_oldest" or size > self._config.max_bytes:
            return False
        oldest = self._database.execute("SELECT sink, number, counts, length(lines) FROM batch ORDER BY stored, number")
        self._give_up(oldest, lambda: self._bytes + size > self._config.max_bytes)
        return self._bytes + size <= self._config.max_bytes

    def _forget_old(self) -> None:
        limit = self._now() - self._config.max_age_s
        old = self._database.execute("SELECT sink, number, counts, length(lines) FROM batch WHERE stored < ?", (limit,))
        self._give_up(old, lambda: True)

    def _give_up(self, rows: Iterable[tuple[str, int, str, int]], more: Callable[[], bool]) -> None:
        going = []
        for sink, number, counts, size in rows:
            if not more():
                break
            if (sink, number) in self._held or (sink, number) in self._gone:
                continue
            going.append((sink, number))
            self._discount(sink, size)
            self._lost(sink, _counts(counts))
        self._delete(going)

    def _discount(self, sink: str, size: int) -> None:
        self._bytes -= size + _PAGE_OVERHEAD
        self._batches[sink] -= 1

    def _delete(self, rows: Iterable[tuple[str, int]]) -> None:
        self._gone.update(rows)
        # The next call tries again. Should there be none, the next run delivers them: twice is better than never.
        try:
            self._database.executemany("DELETE FROM batch WHERE sink = ? AND number = ?", self._gone)
            self._gone.clear()
        except sqlite3.OperationalError:
            self._delete_errors += 1

    def take(self, sink: str, most: int) -> list[Stored]:
        """The oldest batches of `sink` that nobody holds, `most` of them; they are held from now on, until `done`.

        Those that cannot be read back are given up and told as lost.
        """
        self._forget_old()
        rows = self._database.execute(
            "SELECT number, counts, lines, stored FROM batch WHERE sink = ? ORDER BY number", (sink,)
        )
        damaged = []
        found: list[Stored] = []
        for number, counts, lines, stored in rows:
            if (sink, number) in self._held or (sink, number) in self._gone:
                continue
            try:
                found.append(Stored(number, _counts(counts), self._unpack.decompress(lines), stored))
            except zstandard.ZstdError:
                damaged.append((sink, number, counts, len(lines)))
            if len(found) == most:
                break
        rows.close()
        self._give_up(damaged, lambda: True)
        self._held.update((sink, each.number) for each in found)
        return found

    def done(self, sink: str, *numbers: int) -> None:
        """Forget batches that the sink has acknowledged."""
        for number in numbers:
            self._held.discard((sink, number))
            (size,) = self._database.execute(
                "SELECT length(lines) FROM batch WHERE sink = ? AND number = ?", (sink, number)
            ).fetchone()
            self._discount(sink, size)
        self._delete((sink, number) for number in numbers)

    def release(self, sink: str) -> Counts:
        """Nobody holds any batch of `sink` any more; gives what the spool has for it."""
        self._held = {(each, number) for each, number in self._held if each != sink}
        return self.waiting(sink)

    def waiting(self, sink: str) -> Counts:
        """Events by kind that the spool has for `sink`."""
        total: Counter[int] = Counter()
        for number, counts in self._database.execute("SELECT number, counts FROM batch WHERE sink = ?", (sink,)):
            if (sink, number) not in self._gone:
                total.update(_counts(counts))
        return total

    def sinks(self) -> Mapping[str, int]:
        """Batches by sink, also of sinks that are no longer configured."""
        return {sink: batches for sink, batches in self._batches.items() if batches}

    def statistics(self) -> Mapping[str, int]:
        """Batches, and bytes of the bound that they take; rows that could not be deleted yet, and failures to."""
        return {
            "batches": sum(self._batches.values()),
            "bytes": self._bytes,
            "max_bytes": self._config.max_bytes,
            "undeleted": len(self._gone),
            "delete_errors": self._delete_errors,
        }


def _counts(text: str) -> Counts:
    return msgspec.json.decode(text, type=dict[int, int])


def _is_locked(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT"))
