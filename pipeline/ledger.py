# SPDX-License-Identifier: GPL-2.0-or-later
"""The account of every event: delivered, dropped and counted, or still under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partialmethod

Counts = Mapping[int, int]
"""Numbers of events by kind (data_type)."""


@dataclass(slots=True)
class SinkAccount:
    """One kind's events at one sink."""

    offered: int = 0
    """Handed to the sink's queue, or dropped before it."""

    delivered: int = 0
    """Acknowledged by the sink."""

    dropped_queue: int = 0
    """Dropped because the sink's queue was full."""

    dropped_shutdown: int = 0
    """Not delivered before the deadline at the end, or by a sink that went away."""

    resumed: int = 0
    """Taken over from the spool of an earlier run, beside those offered in this one."""

    dropped_spool: int = 0
    """Given up because the spool was full or they were too old."""

    dead_letter: int = 0
    """Refused by the receiver for good, and kept in the sink's file of dead letters."""

    spooled: int = 0
    """Left in the spool at the end, for the next run."""

    def in_flight(self) -> int:
        """Events between the fan-out and the sink's acknowledgement, the spool included while it is at work."""
        return self.offered + self.resumed - self.settled()

    def settled(self) -> int:
        """Events of which is known what became of them."""
        return sum(getattr(self, outcome) for outcome in OUTCOMES)

    def __str__(self) -> str:
        """For people: what was delivered, and whatever else there is to tell."""
        others = {
            "from the spool of an earlier run": self.resumed,
            "left in the spool": self.spooled,
            "dead letters": self.dead_letter,
            "dropped": self.dropped_queue + self.dropped_shutdown + self.dropped_spool,
            "under way": self.in_flight(),
        }
        told = ", ".join(f"{what} {number:,}" for what, number in others.items() if number)
        return f"{self.delivered:,}" + (f" ({told})" if told else "")


OUTCOMES = ("delivered", "dropped_queue", "dropped_shutdown", "dropped_spool", "dead_letter", "spooled")
"""What can become of an event at a sink: the fields of `SinkAccount` that say so."""


@dataclass(slots=True)
class KindAccount:
    """One kind's events from the kernel to the fan-out."""

    name: str
    emitted: int = 0
    """Numbered at the source; known only as of the last look at its counters."""

    dropped_ring: int = 0
    """Of these, refused by the full ring buffer."""

    filtered: int = 0
    """Left out by configuration before they got a number."""

    skipped_by_kernel: int = 0
    """Times that the kernel did not run the probe's programs because they were running on that CPU already.

    No event was numbered: what it would have been, or whether any, is unknown.
    """

    decoded: int = 0
    malformed: int = 0
    """Records that no decoder could read."""

    missing: int = 0
    """Sequence numbers that gap events named."""

    sinks: dict[str, SinkAccount] = field(default_factory=dict)

    def unaccounted(self) -> int:
        """Emitted events of which nothing is known; not 0 only while they are on their way."""
        return self.emitted - self.dropped_ring - self.malformed - self.decoded

    def sink(self, name: str) -> SinkAccount:
        """The account of one sink, opened at its first use."""
        return self.sinks.setdefault(name, SinkAccount())


class Ledger:
    """All accounts; plain integers, changed by one task at a time."""

    def __init__(self, kinds: Iterable[tuple[int, str]]) -> None:
        self.kinds = {number: KindAccount(name) for number, name in kinds}
        self.unknown_records = 0
        """Malformed records that do not even name a known kind."""

    def decoded(self, counts: Counts) -> None:
        for kind, number in counts.items():
            self.kinds[kind].decoded += number

    def source(self, kind: int, *, emitted: int, dropped: int, filtered: int) -> None:
        """Take over the source's own counters, summed over CPUs."""
        account = self.kinds[kind]
        account.emitted, account.dropped_ring, account.filtered = emitted, dropped, filtered

    def skipped(self, name: str, number: int) -> None:
        """Take over the kernel's count for the probe of that name."""
        for account in self.kinds.values():
            if account.name == name:
                account.skipped_by_kernel = number

    def _settle(self, figure: str, sink: str, counts: Counts) -> None:
        for kind, number in counts.items():
            # An earlier run may have had kinds that this one has not.
            account = self.kinds.setdefault(kind, KindAccount(f"kind_{kind}")).sink(sink)
            setattr(account, figure, getattr(account, figure) + number)

    offered = partialmethod(_settle, "offered")
    resumed = partialmethod(_settle, "resumed")
    delivered = partialmethod(_settle, "delivered")
    dropped_queue = partialmethod(_settle, "dropped_queue")
    dropped_shutdown = partialmethod(_settle, "dropped_shutdown")
    dropped_spool = partialmethod(_settle, "dropped_spool")
    dead_letter = partialmethod(_settle, "dead_letter")
    spooled = partialmethod(_settle, "spooled")

    def acknowledged(self, sink: str, counts: Counts, dead: Counts | None) -> None:
        """A sink settled a batch: what is not among `dead` is delivered."""
        if dead:
            self.dead_letter(sink, dead)
            counts = {kind: number - dead.get(kind, 0) for kind, number in counts.items()}
        self.delivered(sink, counts)

    def is_closed(self) -> bool:
        """Whether every emitted event is delivered or counted as dropped, at every sink.

        The gaps in the sequence numbers must tell the same as the kernel's counters.
        """
        return all(
            account.unaccounted() == 0
            and account.missing == account.dropped_ring + account.malformed
            and all(sink.offered <= account.decoded and sink.in_flight() == 0 for sink in account.sinks.values())
            for account in self.kinds.values()
        )

    def report(self) -> dict[str, object]:
        """The whole ledger, ready for JSON."""
        return {
            "closed": self.is_closed(),
            "unknown_records": self.unknown_records,
            "kinds": {
                account.name: {
                    "data_type": number,
                    "emitted": account.emitted,
                    "dropped_ring": account.dropped_ring,
                    "filtered": account.filtered,
                    "skipped_by_kernel": account.skipped_by_kernel,
                    "decoded": account.decoded,
                    "malformed": account.malformed,
                    "missing": account.missing,
                    "unaccounted": account.unaccounted(),
                    "sinks": {
                        name: {**asdict(sink), "in_flight": sink.in_flight()} for name, sink in account.sinks.items()
                    },
                }
                for number, account in self.kinds.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """The ledger for people, a line a kind that occurred."""
        for account in self.kinds.values():
            resumed = any(sink.resumed for sink in account.sinks.values())
            if not (account.emitted or account.filtered or account.skipped_by_kernel or resumed):
                continue
            delivered = ", ".join(f"{name} {sink}" for name, sink in account.sinks.items())
            yield (
                f"{account.name}: emitted {account.emitted:,} = delivered to {delivered or 'no sink'}"
                f" + dropped by the ring {account.dropped_ring:,} + malformed {account.malformed:,}"
                f" + unaccounted {account.unaccounted():,}; filtered {account.filtered:,}"
                + (f"; skipped by the kernel {account.skipped_by_kernel:,}" if account.skipped_by_kernel else "")
            )
        yield "ledger closed" if self.is_closed() else "LEDGER NOT CLOSED"
