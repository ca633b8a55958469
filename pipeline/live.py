# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as a source, and its counters in the ledger."""

from __future__ import annotations

import os
from collections.abc import Iterable

import trio

from pipeline.config import Config, map_settings
from pipeline.ledger import Ledger
from pipeline.read import read
from probes.kernel.loader import Counters, Loaded
from probes.kernel.ring import Ring, Span
from probes.registry import all_events

_COUNTERS_EVERY_S = 5.0
"""Whoever scrapes the metrics does it less often, as a rule."""


def all_counters(loaded: Loaded) -> list[tuple[int, int, Counters]]:
    """(kind, stream, counters) of all that the kernel counted; a stream is a CPU, or stands for none of them."""
    kinds = [event.data_type for event in all_events()]
    return [(kinds[slot], stream, counters) for slot, stream, counters in loaded.counters()]


def update_ledger(ledger: Ledger, counters: Iterable[tuple[int, int, Counters]]) -> None:
    totals: dict[int, list[int]] = {}
    for kind, _cpu, each in counters:
        total = totals.setdefault(kind, [0, 0, 0])
        for position, value in enumerate((each.emitted, each.dropped, each.filtered)):
            total[position] += value
    for kind, (emitted, dropped, filtered) in totals.items():
        ledger.source(kind, emitted=emitted, dropped=dropped, filtered=filtered)


class Live:
    """The running kernel as a source."""

    def __init__(self, config: Config, loaded: Loaded, ledger: Ledger, stop: trio.Event) -> None:
        """Raises LoadError: no probe runs."""
        self.config = config
        self._loaded = loaded
        self._ring_fd = loaded.ring_fd
        self._ledger = ledger
        self._stop = stop

    async def read(self, send: trio.MemorySendChannel[Span]) -> None:
        ring = Ring(self._ring_fd, self._loaded.ring_bytes)
        try:
            await read(
                ring,
                send,
                span_bytes=self.config.collector.span_bytes,
                poll_interval_s=self.config.collector.poll_interval_ms / 1000,
                stop=self._stop,
                detach=self._detach,
            )
        finally:
            ring.close()

    async def _detach(self) -> None:
        # Detaching waits for every CPU to leave the programs: tens of milliseconds a hook.
        await trio.to_thread.run_sync(self._loaded.detach)

    def final_counters(self) -> list[tuple[int, int, int]]:
        counters = self._look()
        return [(kind, cpu, each.emitted) for kind, cpu, each in counters]

    async def keep_counters(self) -> None:
        """Look at the kernel's counters now and then, for the metrics."""
        while not self._stop.is_set():
            self._look()
            await trio.sleep(_COUNTERS_EVERY_S)

    def _look(self) -> list[tuple[int, int, Counters]]:
        counters = all_counters(self._loaded)
        update_ledger(self._ledger, counters)
        for name, number in self._loaded.skipped_by_kernel().items():
            self._ledger.skipped(name, number)
        return counters

    async def keep_filters(self) -> None:
        """Look up excluded executables again: one that was replaced is another file."""
        while True:
            await trio.sleep(self.config.filters.refresh_s)
            await self.set_filters(self.config)

    async def set_filters(self, config: Config) -> None:
        self.config = config
        await trio.to_thread.run_sync(self._loaded.set_filters, map_settings(config, os.getpid()))
