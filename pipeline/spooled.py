# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches that come back from the spool: an earlier run, with another configuration, may have made them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from sinks.protocol import Schema

if TYPE_CHECKING:
    from pipeline.ledger import Counts


class _Smith(msgspec.Struct):
    data_type: int
    event_id: str
    entity_id: str = ""


class _Hookline(msgspec.Struct):
    data_type: int


class _Event(msgspec.Struct):
    id: str


class _DataStream(msgspec.Struct):
    dataset: str


class _Process(msgspec.Struct):
    entity_id: str = ""


class _Ecs(msgspec.Struct):
    hookline: _Hookline
    event: _Event
    data_stream: _DataStream
    process: _Process | None = None


# Texts that are numbers: every value is a text in smith.
_smith = msgspec.json.Decoder(_Smith, strict=False)
_ecs = msgspec.json.Decoder(_Ecs)


@dataclass(frozen=True, slots=True)
class Spooled:
    """A batch from the spool, as sinks see it: lines of the schema in which it was made."""

    lines: bytes
    counts: Counts
    stored: float
    """When, in seconds since the epoch."""

    lost: Counts = field(default_factory=dict)
    """Events that were stored and are not among `lines`: the sink can do nothing with them."""

    events: tuple[()] = ()
    boot_offset_ns: int = 0

    def encoded(self, schema: Schema) -> bytes:
        """The lines; `schema` is that of the sink, which may have had another when the batch was made."""
        return self.lines

    def pieces(self, schema: Schema) -> Sequence[bytes]:
        """As one."""
        return [self.lines]

    def __len__(self) -> int:
        return sum(self.counts.values())

    def ages(self) -> Iterable[tuple[float, int]]:
        """From when they were stored: the clock of their own times may be another boot's."""
        return [(max(time.time() - self.stored, 0.0), len(self))]


def spooled(lines: bytes, counts: Counts, stored: float, schemas: frozenset[Schema]) -> Spooled:
    """What a sink that takes `schemas` can have of a batch with `counts`, stored at `stored` (the epoch's seconds)."""
    kept: list[bytes] = []
    found: Counter[int] = Counter()
    for line in lines.split(b"\n"):
        kind = _kind(line, schemas)
        if kind is not None and kind in counts:
            kept.append(line + b"\n")
            found[kind] += 1
    return Spooled(b"".join(kept), found, stored, Counter(counts) - found)


def _kind(line: bytes, schemas: frozenset[Schema]) -> int | None:
    """The event's ``data_type``; None: it is no event, or of none of `schemas`."""
    if "smith" in schemas:
        try:
            return _smith.decode(line).data_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    if "ecs" in schemas:
        try:
            return _ecs.decode(line).hookline.data_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return None
