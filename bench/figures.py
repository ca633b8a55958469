# SPDX-License-Identifier: GPL-2.0-or-later
"""Medians with their spread, and what of a difference is noise."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import msgspec

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_LEAST = 6
"""Values of which the range holds the median with that confidence."""

TOO_FEW = "too few rounds"
"""`Interval.doubt` of fewer."""


class Spread(msgspec.Struct, frozen=True):
    """A figure that was taken several times."""

    median: float
    low: float
    high: float
    times: int

    @property
    def scatter(self) -> float:
        """The distance of the extremes as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


class Interval(msgspec.Struct, frozen=True):
    """A median with its 95 % confidence interval; of fewer than six values with their range, which is less sure."""

    median: float
    low: float
    high: float
    times: int

    @property
    def bracket(self) -> str:
        """What `low` and `high` are the ends of."""
        return "95 % interval" if self.times >= _LEAST else f"range of {self.times} rounds"

    @property
    def doubt(self) -> str:
        """Why no cost is shown, empty where one is: too few rounds for an interval, or noise.

        It is noise where zero lies inside, and where all is below it: that is another thing than the probes that
        differed, for they make nothing quicker.
        """
        return TOO_FEW if self.times < _LEAST else "noise" if self.low <= 0 else ""


def spread(values: Sequence[float]) -> Spread:
    """Median and extremes of at least one value."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def interval(values: Sequence[float]) -> Interval:
    """The median of at least one value with its confidence interval, by resampling them (percentile bootstrap).

    The same values give the same interval. Of fewer than six it is their whole range, which holds
    the median with a certainty of less than 95 %.
    """
    middle = statistics.median(values)
    if len(values) < _LEAST:
        return Interval(middle, min(values), max(values), len(values))
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    cut = int(_RESAMPLES * (1 - _CONFIDENCE) / 2)
    return Interval(middle, medians[cut], medians[-cut - 1], len(values))
