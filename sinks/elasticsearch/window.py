# SPDX-License-Identifier: GPL-2.0-or-later
"""How many requests may be under way: slowly more while the server copes, at once half as many when it does not."""

from __future__ import annotations

import trio

_LEAST_SLOW_S = 0.25
"""Answers below this are never slow, however fast the others were."""


class Window:
    """Additive increase, multiplicative decrease, as TCP has it (RFC 5681; times as RFC 6298)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = 1.0
        self._limiter = trio.CapacityLimiter(1)
        self._mean: float | None = None
        self._deviation = 0.0
        self._narrowed_at = -1.0
        self.narrowed = 0
        """Times since the start."""

    @property
    def width(self) -> int:
        """Requests that may be under way."""
        return int(self._limiter.total_tokens)

    def place(self) -> trio.CapacityLimiter:
        """``async with``: wait for a place, and hold it."""
        return self._limiter

    def answered(self, started: float, *, overloaded: bool) -> None:
        """A request that began at `started` (trio's clock) was answered just now."""
        now = trio.current_time()
        if overloaded or self._is_slow(now - started):
            # Once for all that were under way then: they tell of one trouble.
            if started > self._narrowed_at:
                self._narrowed_at = now
                self.narrowed += 1
                self._set(self._width / 2)
        else:
            self._set(self._width + 1 / self._width)

    def _set(self, width: float) -> None:
        self._width = min(max(width, 1.0), self._most)
        self._limiter.total_tokens = int(self._width)

    def _is_slow(self, took: float) -> bool:
        if self._mean is None:
            self._mean, self._deviation = took, took / 2
            return False
        slow = took > max(self._mean + 4 * self._deviation, _LEAST_SLOW_S)
        self._deviation += (abs(took - self._mean) - self._deviation) / 4
        self._mean += (took - self._mean) / 8
        return slow
