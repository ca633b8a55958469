# SPDX-License-Identifier: GPL-2.0-or-later
"""Raw records in a file, to be replayed without root.

A recording is one line of JSON (`Header`), then frames, and nothing after the
last. A frame is ``tag, length, count, crc32`` and as many bytes as ``length``
says. Numbers are little-endian, as on every machine that Hookline runs on.
Every checksum begins with that of the first line.

- ``SPAN``: of ``count`` records the offset and the size, a u32 each, then the
  bytes that these point into: a span as it left the ring.
- ``DONE``: the totals and the kernel's counters, as JSON. Only a recording
  that was finished has it, and one without it is refused.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import add
from pathlib import Path
from typing import BinaryIO

import msgspec

from pipeline.enrich.host import Host
from probes.errors import RecordingError
from probes.kernel.loader import Counters
from probes.kernel.ring import Span
from probes.layout import PREFIX, fingerprint
from probes.registry import all_events

KindCounters = tuple[int, int, Counters]
"""A kind (data_type), a CPU, and what the kernel counted of them."""

_VERSION = 1
_FRAME = struct.Struct("<4sIII")
_SPAN, _DONE = b"SPAN", b"DONE"
_LARGEST_LINE = 64 << 10
_LARGEST_FRAME = 256 << 20
"""Bytes: above the largest span with its index."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What `msgspec` raises for what is no JSON, or another."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line."""

    hookline_recording: int = _VERSION
    fingerprint: str
    """Of the schema that the records have, see `probes.layout.fingerprint`."""

    run_id: str
    boot_offset_ns: int
    """What to add to a time since boot for a time since the epoch."""

    kernel: str
    host: Host


class _Version(msgspec.Struct):
    hookline_recording: int


class _Totals(msgspec.Struct, frozen=True):
    spans: int
    records: int
    counters: list[KindCounters]


class Recorder:
    """Writes a recording, mode 0600: records hold environments. Without `finish` nobody will read it.

    Raises:
        RecordingError: the file is there already.
        OSError: it cannot be made, or written to.
    """

    def __init__(self, path: Path, *, run_id: str, boot_offset_ns: int, host: Host) -> None:
        header = Header(
            fingerprint=fingerprint(all_events()),
            run_id=run_id,
            boot_offset_ns=boot_offset_ns,
            kernel=os.uname().release,
            host=host,
        )
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise RecordingError(f"{path} exists: remove it or choose another file") from None
        self._file = open(fd, "wb", buffering=1 << 20)  # noqa: SIM115 # closed by __exit__
        self._path = path
        self._spans = 0
        self._records = 0
        line = msgspec.json.encode(header) + b"\n"
        self._seed = zlib.crc32(line)
        self._file.write(line)

    def write(self, span: Span) -> None:
        """Append one span. Blocks while the disk is busy."""
        index = array("I", chain.from_iterable(span.records))
        self._frame(_SPAN, len(span.records), index.tobytes(), span.data)
        self._spans += 1
        self._records += len(span.records)

    def finish(self, counters: Iterable[KindCounters]) -> None:
        """End with what the kernel has counted; all is then on the disk."""
        totals = _Totals(self._spans, self._records, list(counters))
        self._frame(_DONE, 0, msgspec.json.encode(totals), b"")
        with self._naming():
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """The error of a full disk names no file by itself."""
        try:
            yield
        except OSError as error:
            there = f"after {self._spans} spans with {self._records} records; no replay takes it without its end"
            raise OSError(error.errno, f"{error.strerror} {there}", os.fspath(self._path)) from None

    def _frame(self, tag: bytes, count: int, first: bytes, second: bytes) -> None:
        check = zlib.crc32(second, zlib.crc32(first, self._seed))
        with self._naming():
            self._file.write(_FRAME.pack(tag, len(first) + len(second), count, check))
            self._file.write(first)
            self._file.write(second)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_error: object) -> None:
        with self._naming():
            self._file.close()


class Recording:
    """A whole recording of this schema. Made by `open_recording`."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path = path
        self._file = file
        self._size = size
        self.header = self._read_header()
        self._start = file.tell()
        self._totals = self._find_totals()

    @property
    def counters(self) -> list[KindCounters]:
        """What the kernel had counted at the end."""
        return self._totals.counters

    def spans(self) -> Iterator[Span]:
        """All spans in order, from the first.

        Raises:
            RecordingError: one is damaged; those before it were whole.
        """
        self._file.seek(self._start)
        for number in range(1, self._totals.spans + 1):
            _tag, length, count, check = _FRAME.unpack(self._exactly(_FRAME.size))
            index, data = self._exactly(8 * count), self._exactly(length - 8 * count)
            if zlib.crc32(data, zlib.crc32(index, self._seed)) != check:
                raise RecordingError(f"{self._path}: span {number} of {self._totals.spans} is damaged")
            numbers = array("I", index)
            offsets, sizes = numbers[::2], numbers[1::2]
            if count and (min(sizes) < PREFIX.size or max(map(add, offsets, sizes)) > len(data)):
                raise RecordingError(f"{self._path}: a record of span {number} points out of its span")
            yield Span(data, list(zip(offsets, sizes, strict=True)))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def _read_header(self) -> Header:
        line = self._file.readline(_LARGEST_LINE)
        self._seed = zlib.crc32(line)
        try:
            version = msgspec.json.decode(line, type=_Version).hookline_recording
            if version != _VERSION:
                raise RecordingError(f"{self._path} has version {version}: this Hookline reads {_VERSION}")
            header = msgspec.json.decode(line, type=Header)
        except _UNREADABLE:
            raise RecordingError(f"{self._path} is not a recording of Hookline") from None
        here = fingerprint(all_events())
        if header.fingerprint != here:
            other = f"with another schema ({header.fingerprint}, here {here})"
            raise RecordingError(f"{self._path} was recorded {other}: replay it with the Hookline that did so")
        return header

    def _find_totals(self) -> _Totals:
        """The last frame; looks at every frame's head, and at no span."""
        at = self._start
        spans = records = 0
        while at + _FRAME.size <= self._size:
            self._file.seek(at)
            tag, length, count, check = _FRAME.unpack(self._exactly(_FRAME.size))
            if tag not in {_SPAN, _DONE} or length > _LARGEST_FRAME or 8 * count > length:
                raise RecordingError(f"{self._path} is damaged after {spans} whole spans")
            at += _FRAME.size + length
            if at > self._size:
                break
            if tag == _DONE:
                return self._read_totals(self._exactly(length), check, spans, records, at)
            spans += 1
            records += count
        raise RecordingError(
            f"{self._path} ends after {spans} whole spans without an end mark: the recorder was killed, or "
            f"the file was cut"
        )

    def _read_totals(self, content: bytes, check: int, spans: int, records: int, end: int) -> _Totals:
        try:
            if zlib.crc32(content, self._seed) != check:
                raise msgspec.DecodeError
            totals = msgspec.json.decode(content, type=_Totals)
        except _UNREADABLE:
            raise RecordingError(f"{self._path}: the end mark after {spans} spans is damaged") from None
        if (totals.spans, totals.records, end) != (spans, records, self._size):
            raise RecordingError(f"{self._path} is damaged: its spans are not those that its end mark counts")
        return totals

    def _exactly(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise RecordingError(f"{self._path} became shorter while it was read")
        return content


def open_recording(path: Path) -> Recording:
    """The recording in `path`; close it.

    Raises:
        RecordingError: it is cut, damaged, of another schema, or no recording.
    """
    try:
        # O_NONBLOCK: a FIFO without a writer must not be waited for.
        file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115 # see below
        try:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RecordingError(f"{path} is not a regular file, which a recording must be")
            return Recording(path, file, status.st_size)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
