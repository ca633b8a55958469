# SPDX-License-Identifier: GPL-2.0-or-later
"""The account of every event: delivered, dropped and counted, or still under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

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

    def in_flight(self) -> int:
        """Events between the fan-out and the sink's acknowledgement."""
        return self.offered - self.delivered - self.dropped_queue - self.dropped_shutdown


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

    def offered(self, sink: str, counts: Counts) -> None:
        for kind, number in counts.items():
            self.kinds[kind].sink(sink).offered += number

    def delivered(self, sink: str, counts: Counts) -> None:
        for kind, number in counts.items():
            self.kinds[kind].sink(sink).delivered += number

    def dropped_queue(self, sink: str, counts: Counts) -> None:
        for kind, number in counts.items():
            self.kinds[kind].sink(sink).dropped_queue += number

    def dropped_shutdown(self, sink: str, counts: Counts) -> None:
        for kind, number in counts.items():
            self.kinds[kind].sink(sink).dropped_shutdown += number

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
                        name: {
                            "offered": sink.offered,
                            "delivered": sink.delivered,
                            "dropped_queue": sink.dropped_queue,
                            "dropped_shutdown": sink.dropped_shutdown,
                            "in_flight": sink.in_flight(),
                        }
                        for name, sink in account.sinks.items()
                    },
                }
                for number, account in self.kinds.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """The ledger for people, a line a kind that occurred."""
        for account in self.kinds.values():
            if not (account.emitted or account.filtered or account.skipped_by_kernel):
                continue
            delivered = ", ".join(
                f"{name} {sink.delivered:,}"
                + (f" (dropped {sink.offered - sink.delivered:,})" if sink.delivered != sink.offered else "")
                for name, sink in account.sinks.items()
            )
            yield (
                f"{account.name}: emitted {account.emitted:,} = delivered to {delivered or 'no sink'}"
                f" + dropped by the ring {account.dropped_ring:,} + malformed {account.malformed:,}"
                f" + unaccounted {account.unaccounted():,}; filtered {account.filtered:,}"
                + (f"; skipped by the kernel {account.skipped_by_kernel:,}" if account.skipped_by_kernel else "")
            )
        yield "ledger closed" if self.is_closed() else "LEDGER NOT CLOSED"
