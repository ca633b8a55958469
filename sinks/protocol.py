# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pipeline and a sink know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Protocol

import msgspec

from sinks.checks import check_texts

Schema = Literal["smith", "ecs"]


class SinkError(Exception):
    """A sink cannot be opened as configured: one sentence with its remedy."""


class SinkUnavailable(Exception):
    """A batch was not taken, or not as a whole; offering it again is right.

    The message says why in a few words ("No space left on device").
    """

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        """`pause_s`: seconds after which it is right; None: the pipeline decides."""
        super().__init__(reason)
        self.pause_s = pause_s


class SinkClosed(Exception):
    """The reader went away; the sink takes nothing more, ever. A clean end, such as ``| head``."""


class EventView(Protocol):
    """What a sink may ask of a single event."""

    @property
    def kind(self) -> int:
        """The event's ``data_type`` number."""

    @property
    def time_ns(self) -> int:
        """Nanoseconds since boot (CLOCK_BOOTTIME)."""

    def name(self) -> str:
        """The kind's name, such as ``execve``."""

    def summary(self) -> str:
        """One line for people, free of control characters."""


class Batch(Protocol):
    """Events in order, and their encodings, made once however many sinks ask."""

    @property
    def events(self) -> Sequence[EventView]:
        """The events; empty unless an open sink's configuration has ``reads_events``."""

    @property
    def boot_offset_ns(self) -> int:
        """What to add to a time since boot for a time since the epoch."""

    def encoded(self, schema: Schema) -> bytes:
        """The events as NDJSON: ASCII, one object a line, every line ended."""

    def pieces(self, schema: Schema) -> Sequence[bytes]:
        """The same bytes in pieces, each worth a system call: for who need not have them as one."""

    def __len__(self) -> int: ...


class Sink(Protocol):
    """Where batches end. One task calls it; it need not be reentrant.

    A sink's package has ``open_sink(config)``, an async context manager that gives the sink and raises
    SinkError if it cannot; leaving it flushes and releases everything. A sink with background tasks has them
    in a nursery of its own, so that what the body raises arrives in an ``ExceptionGroup``.
    """

    async def deliver(self, batch: Batch) -> Mapping[int, int] | None:
        """Return once the batch is as safe as the configuration asks.

        Gives the events by kind that the receiver will never take and that are dead letters now; None: there
        are none. All others are delivered.

        Raises:
            SinkUnavailable: the batch, or a part of it, was not taken. A sink that took a part knows which, or
                has a receiver that takes an event twice without harm.
            SinkClosed: nothing will ever be taken.
        """

    async def reopen(self) -> None:
        """Let go of files and connections and take them anew (SIGHUP).

        Raises:
            SinkError: they cannot be opened; where there were others, those stay in use.
        """

    def statistics(self) -> Mapping[str, int]:
        """Counters and gauges by metric name, such as ``rotations``."""


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """What every sink's table in ``config.toml`` may hold."""

    reads_events: ClassVar[bool] = False
    """Whether the sink looks at a batch's events and not at its encoding alone."""

    accepts: ClassVar[frozenset[Schema]] = frozenset({"smith", "ecs"})
    """Schemas of the lines that it can deliver, such as those that wait in the spool since `schema` was another."""

    schema: Schema = "smith"
    """Field names and shapes of the output."""

    queue_batches: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Batches that may wait for this sink."""

    when_full: Literal["drop", "block", "spool"] = "drop"
    """At a full queue: drop the new batch and count it, let the pipeline wait, or put it into the spool."""

    durability: Literal["memory", "disk"] = "memory"
    """``disk``: every batch is in the spool before it is delivered, and survives the collector."""

    @property
    def spools(self) -> bool:
        """Whether batches may wait in the spool."""
        return self.when_full == "spool" or self.durability == "disk"

    def __post_init__(self) -> None:
        check_texts(self)
        if self.reads_events and self.spools:
            raise ValueError('when_full must be "drop" or "block", and durability "memory": this sink has no spool')
