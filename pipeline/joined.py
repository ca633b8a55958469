# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches that wait for one sink, delivered as one: what a delivery costs beside its events is paid once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Protocol

from pipeline.ledger import Counts
from sinks.protocol import Batch, Schema

MOST = 8
"""Batches that are delivered together, at most."""


class Countable(Batch, Protocol):
    """A batch that tells its events by kind, and how old they are."""

    @property
    def counts(self) -> Counts: ...

    def ages(self) -> Iterable[tuple[float, int]]:
        """Seconds since the kernel told of them, and the number of events."""


class Joined:
    """Several batches in order, for a sink that looks at their lines alone."""

    __slots__ = ("_batches", "boot_offset_ns", "counts", "events")

    def __init__(self, batches: Sequence[Countable]) -> None:
        self._batches = batches
        self.boot_offset_ns = batches[0].boot_offset_ns
        self.counts: Counter[int] = Counter()
        for batch in batches:
            self.counts.update(batch.counts)
        self.events: tuple[()] = ()

    def __len__(self) -> int:
        return sum(map(len, self._batches))

    def encoded(self, schema: Schema) -> bytes:
        """The lines of all, made anew each time, for no sink asks more often than it sends."""
        return b"".join(batch.encoded(schema) for batch in self._batches)

    def pieces(self, schema: Schema) -> Sequence[bytes]:
        """Those of all."""
        return [piece for batch in self._batches for piece in batch.pieces(schema)]

    def ages(self) -> Iterable[tuple[float, int]]:
        """Those of all."""
        return chain.from_iterable(batch.ages() for batch in self._batches)


def joined(batches: Sequence[Countable]) -> Countable:
    """`batches`, of which there is at least one, as one."""
    return batches[0] if len(batches) == 1 else Joined(batches)
