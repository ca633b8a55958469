# SPDX-License-Identifier: GPL-2.0-or-later
"""From what the rounds counted to handlers, calls and rows."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

from bench.actions import Action
from bench.budgets import Budgets, Documented, Source
from bench.figures import Spread, interval, spread
from bench.report import Call, Distribution, Handler, Row, Verdict
from probes.kernel.histogram import BUCKETS, CLOCK, Histogram, lower

Key = tuple[str, str]
"""PROBE/PROGRAM and action."""


class Samples:
    """What all rounds counted."""

    def __init__(self) -> None:
        self._inside: dict[Key, list[Histogram]] = defaultdict(list)
        self._clock: list[Histogram] = []
        self._kernel: dict[Key, list[tuple[int, int]]] = defaultdict(list)
        self._nothing: list[float] = []
        self._without: dict[str, list[float]] = defaultdict(list)
        self._beside: dict[str, list[float]] = defaultdict(list)

    def inside(self, action: str, before: Mapping[str, Histogram], after: Mapping[str, Histogram]) -> None:
        """Take in what the histograms counted during an action."""
        for name, now in after.items():
            if now.count > before[name].count:
                counted = now.since(before[name])
                if name.endswith(f"/{CLOCK}"):
                    self._clock.append(counted)
                else:
                    self._inside[name, action].append(counted)

    def kernel(self, action: str, name: str, runs: int, total_ns: int) -> None:
        """Take in what bpf_stats counted of a program during an action."""
        if runs:
            self._kernel[name, action].append((runs, total_ns))

    def nothing(self, runs: int, total_ns: int) -> None:
        """Take in what bpf_stats counted in a round of a program that does nothing."""
        if runs:
            self._nothing.append(total_ns / runs)

    def call(self, action: str, means: Sequence[float], *, beside: bool) -> None:
        """Take in the times of one round."""
        (self._beside if beside else self._without)[action].append(statistics.median(means))

    @property
    def of_nothing(self) -> Spread | None:
        """Mean ns a run of a program that does nothing, by bpf_stats; None where none ran."""
        return spread(self._nothing) if self._nothing else None

    @property
    def clock_ns(self) -> int:
        """What a reading of the clock takes as a rule, rounded down; it is in every duration that was counted."""
        counts = [sum(column) for column in zip(*(each.counts for each in self._clock), strict=True)]
        return lower(bisect_left(list(accumulate(counts)), sum(counts) / 2)) if counts else 0

    def handlers(self) -> tuple[Handler, ...]:
        """Each program under each action that runs it, by name."""
        return tuple(self._handler(key) for key in sorted(self._inside))

    def _handler(self, key: Key) -> Handler:
        kernel = self._kernel.get(key, [])
        means = [total / runs for runs, total in kernel]
        runs = sum(runs for runs, _total in kernel)
        return Handler(*key, distribution(self._inside[key], self.clock_ns), spread(means) if means else None, runs)

    def calls(self, actions: Iterable[Action]) -> tuple[Call, ...]:
        """What each action took."""
        found = []
        for action in actions:
            without, beside = self._without[action.name], self._beside[action.name]
            if without and len(without) == len(beside):
                paid = [with_ - bare for with_, bare in zip(beside, without, strict=True)]
                found.append(Call(action.name, action.title, spread(without), spread(beside), interval(paid)))
        return tuple(found)

    def rows(self, budgets: Budgets, asks_for: Callable[[Documented], bool]) -> tuple[Row, ...]:
        """Each documented handler, answered where it was asked for."""
        return tuple(
            self._row(each, source) if asks_for(each) else Row(each, source, "not measured")
            for each in budgets.handlers
            for source in (budgets.sources[each.source],)
        )

    def _row(self, documented: Documented, source: Source) -> Row:
        if not documented.ours:
            (action,) = documented.actions
            pairs = zip(self._beside[action], self._without[action], strict=True)
            paid = [with_ - bare for with_, bare in pairs]
            if not paid:
                return Row(documented, source, "no samples")
            instead = interval(paid)
            is_over = instead.low > documented.mean * 1000
            return Row(documented, source, "over" if is_over else "no handler", instead=instead)
        parts = [self._answers(name, documented.actions) for name in documented.ours]
        parts = [part for part in parts if part[0].n]
        if not parts:
            return Row(documented, source, "no samples")
        # Several programs of one call are added up, quantiles too: as if all were slow in the same call.
        mean = sum(inside.mean for inside, _kernel in parts)
        kernel = [mean for _inside, mean in parts if mean is not None]
        inside = [inside for inside, _kernel in parts]
        ours = {name: sum(getattr(each, name) for each in inside) for name in ("p50", "p90", "p95", "p99", "max")}
        over = tuple(
            name
            for name in ("p50", "p90", "p95", "p99")
            if (limit := getattr(documented, name)) is not None and ours[name] > limit * 1000
        )
        verdict: Verdict = "met" if mean <= documented.mean * 1000 else "over"
        return Row(
            documented,
            source,
            verdict,
            n=min(each.n for each in inside),
            mean=mean,
            kernel_mean=sum(kernel) if kernel else None,
            ratio=mean / (documented.mean * 1000),
            percentiles_over=over,
            **ours,
        )

    def _answers(self, name: str, actions: Iterable[str]) -> tuple[Distribution, float | None]:
        inside = [one for action in actions for one in self._inside.get((name, action), ())]
        kernel = [one for action in actions for one in self._kernel.get((name, action), ())]
        runs = sum(count for count, _total in kernel)
        return distribution(inside, self.clock_ns), sum(total for _runs, total in kernel) / runs if runs else None


def distribution(rounds: Sequence[Histogram], clock_ns: int) -> Distribution:
    """All rounds together, each duration without the reading of the clock that is in it; of none, n is 0."""

    def net(duration: float) -> float:
        return max(duration - clock_ns, 0)

    counts = [sum(column) for column in zip(*(each.counts for each in rounds), strict=True)] or [0] * BUCKETS
    whole = Histogram(
        tuple(counts),
        count=sum(each.count for each in rounds),
        total_ns=sum(each.total_ns for each in rounds),
        max_ns=max((each.max_ns for each in rounds), default=0),
    )
    means = [net(each.total_ns / each.count) for each in rounds] or [0.0]
    p50, p90, p95, p99, p999 = (int(net(whole.quantile(share))) for share in (0.5, 0.9, 0.95, 0.99, 0.999))
    buckets: Counter[int] = Counter()
    for index, count in enumerate(counts):
        if count:
            buckets[int(net(lower(index)))] += count
    return Distribution(
        n=whole.count,
        mean=net(whole.total_ns / whole.count) if whole.count else 0.0,
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        p999=p999,
        max=int(net(whole.max_ns)),
        by_round=spread(means),
        buckets=tuple(buckets.items()),
    )
