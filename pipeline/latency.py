# SPDX-License-Identifier: GPL-2.0-or-later
"""How long events took, through a stage or from the kernel to a sink's acknowledgement, as a histogram."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from probes.event import HostEvent

BOUNDS_S = tuple(round(10 ** (step / 10 - 3), 6) for step in range(61))
"""Upper ends of the buckets: ten a decade from 1 ms to 1,000 s. What took longer is in one more."""

_LOOKED_AT = 16
"""Events of one list whose times are read, at most: one of a list tells of its neighbours, which came with it."""

Times = list[tuple[int, int]]
"""Times since boot in ns, and for how many events each stands."""


def times_of(events: Sequence[HostEvent]) -> Times:
    """The times of `events`, every one of a short list, evenly chosen ones of a long list."""
    step = -(-len(events) // _LOOKED_AT) or 1
    times = [(event.time_ns, step) for event in events[::step]]
    if rest := len(events) % step:
        times[-1] = (times[-1][0], rest)
    return times


def boot_ns() -> int:
    """Nanoseconds since boot now, by the clock of events' times."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Latency:
    """Events by the seconds that they took; plain integers, changed by one task."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        """Events in each bucket of `BOUNDS_S`, not cumulative; the last: above all."""

        self.sum_s = 0.0
        """Of all events' seconds."""

    def took(self, seconds: float, events: int) -> None:
        """Take in a list of events that went through a stage together."""
        self.acknowledged(((seconds, events),))

    def acknowledged(self, ages: Iterable[tuple[float, int]]) -> None:
        """Take in (seconds, number of events)."""
        for seconds, events in ages:
            self.counts[bisect_left(BOUNDS_S, seconds)] += events
            self.sum_s += seconds * events

    def cumulative(self) -> list[tuple[str, int]]:
        """Prometheus' buckets: upper end, events up to it."""
        total = 0
        buckets = []
        for bound, events in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += events
            buckets.append((bound, total))
        return buckets
