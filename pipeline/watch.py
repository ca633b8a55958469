# SPDX-License-Identifier: GPL-2.0-or-later
"""When to look for files that user probes attach to: at the start, when something new runs, and now and then."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import structlog
import trio

from probes.event import ProcessEvent
from probes.kernel.uprobes import News, Uprobes
from probes.process.execve import Execve
from probes.registry import all_probes

log = structlog.get_logger()

_LOOKS = 2
"""How often a new process is looked at: at once, and when it has loaded what it loads at its start."""

_BETWEEN_S = 1.0
"""Seconds between these."""

_REST = 10
"""A search is followed by a pause of so many times its own length: whoever makes new things run makes no load."""

_MOST_WAITING = 256
"""Processes that wait to be looked at. More are left to the next search of all."""

_REMEMBERED = 4096


class Watch:
    """Sees events pass (as an enrichment that sets nothing), and searches."""

    def __init__(self) -> None:
        self._programs = _programs()
        self._own = os.stat("/proc/self/ns/mnt").st_ino
        self._namespaces: set[int] = {self._own}
        self._executables: set[bytes] = set()
        self._waiting: dict[int, int] = {}
        self._new = trio.Event()
        self._uprobes: Uprobes | None = None

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Note the processes to look at."""
        for event in events:
            if event.mnt_ns not in self._namespaces:
                _remember(self._namespaces, event.mnt_ns)
                self._look_at(event.tgid)
            elif type(event) is Execve and not event.result and event.exe_file not in self._executables:
                name = event.exe_path.rpartition(b"/")[2]
                if event.mnt_ns != self._own or self._programs.fullmatch(name):
                    _remember(self._executables, event.exe_file)
                    self._look_at(event.tgid)

    def statistics(self) -> Mapping[str, int]:
        found = self._uprobes.statistics() if self._uprobes is not None else {}
        return {**found, "processes_waiting": len(self._waiting)}

    def _look_at(self, tgid: int) -> None:
        if len(self._waiting) < _MOST_WAITING or tgid in self._waiting:
            self._waiting[tgid] = _LOOKS
            self._new.set()

    async def run(self, uprobes: Uprobes, *, most: int, every_s: float) -> None:
        """Search until cancelled; `close` of `uprobes` ends a search that is under way."""
        if not uprobes:
            return
        self._uprobes = uprobes
        next_full = trio.current_time()
        while True:
            began = trio.current_time()
            full = began >= next_full
            looked_at = tuple(self._waiting)
            self._new = trio.Event()
            done = False
            try:
                done = await trio.to_thread.run_sync(uprobes.search, () if full else looked_at, most, _tell)
            except RuntimeError:  # no thread is to be had just now
                log.warning("no thread for a search for files to attach to can be had")
                await trio.sleep(_BETWEEN_S)  # new processes must not make it try, and tell, without a rest
            for tgid in looked_at:
                self._waiting[tgid] -= 1
                if not self._waiting[tgid]:
                    del self._waiting[tgid]
            now = trio.current_time()
            rest = (now - began) * _REST
            if full:
                # Soon again after a failure, but not at once: who makes searches fail must make no load.
                next_full = now + (max(every_s, rest) if done else max(_BETWEEN_S, min(every_s, rest)))
            else:
                await trio.sleep(rest)
            with trio.move_on_at(min(next_full, now + _BETWEEN_S) if self._waiting else next_full):
                await self._new.wait()


def _programs() -> re.Pattern[bytes]:
    """The names of executables that bring with them what some probe attaches to."""
    files = {hook.files for probe in all_probes().values() for form in probe.forms for hook in form.hooks}
    patterns = sorted({each.programs for each in files if each is not None and each.programs})
    return re.compile("|".join(f"(?:{each})" for each in patterns).encode("ascii") or b"(?!)")


def _remember(known: set[int] | set[bytes], one: int | bytes) -> None:
    if len(known) >= _REMEMBERED:
        known.clear()
    known.add(one)  # type: ignore[arg-type]


def _tell(news: News) -> None:
    told = {"files": news.files, "path": news.path, "reason": news.reason}
    log.info(news.what, **{name: value for name, value in told.items() if value})
