# SPDX-License-Identifier: GPL-2.0-or-later
"""Which container an event's process is in, by the cgroup that the kernel saw it in.

An id counts as `pipeline.enrich.cgroups` says, and is told with why it can be
trusted. Of nested ones the outermost that a runtime of this host knows is
taken: what is below, whoever is root there has made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import trio

from pipeline.enrich.assignment import assignment
from pipeline.enrich.cgroups import Candidate, Hierarchies
from pipeline.enrich.runtimes import Description, Roots, describe
from probes.decoder import origin_reader
from probes.event import ProcessEvent

_origin, _read_origin = origin_reader()
_CGROUP = _origin.index("cgroup")
_assign_container = assignment("origin", "container")

_NOWHERE = ""
"""The piece of a process in no container."""

_ROOT = 1
"""Id of the topmost cgroup of each hierarchy."""

_RETRY_S = 1.0
"""After this a cgroup that was gone, or of which no runtime had a file, is looked at again."""

_DEAD_MOUNT_S = 30.0
"""After a time-out it is not looked at for so long."""

_WORKERS = 2

_Found = TypeVar("_Found")

Homes = Callable[[int], str]
"""The home of a user id; "" of none."""


def piece(candidate: Candidate, found: Description | None) -> str:
    """The event's `container`, in the order of its parts."""
    if found is None:
        return "\0".join((candidate.id, "", "", "", "", "", "", "", "unverified"))
    kubernetes = ("pod", "kubernetes") if found.pod else ("", "")
    status = "user" if candidate.owner else "verified"
    parts = (candidate.id, found.name, found.image, found.runtime, found.pod, found.namespace, *kubernetes, status)
    return "\0".join(parts)


class Containers:
    """Containers by cgroup; of too many, the one that was found first is forgotten."""

    def __init__(
        self, roots: Roots, homes: Homes, *, entries: int, wait_s: float, hierarchies: Hierarchies | None = None
    ) -> None:
        self._roots = roots
        self._homes = homes
        self._entries = entries
        self._wait_s = wait_s
        self._hierarchies = hierarchies or Hierarchies()
        self._limiter = trio.CapacityLimiter(_WORKERS)
        self._of_users = trio.CapacityLimiter(1)
        """Whose home does not answer holds up nobody but other users without root's rights."""
        self._is_stuck = False
        """Whether somebody waited in vain while a user's home was looked at: others do not wait for that again."""

        self._by_origin: dict[bytes, str] = {}
        """A short cut to what stays true."""

        self._by_cgroup: dict[int, str] = {_ROOT: _NOWHERE}
        self._for_now: dict[int, tuple[str, float]] = {}
        """What may be known better later, and until when it is not asked again."""
        self._hits = self._misses = self._evictions = self._timeouts = self._without_thread = 0

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `container` of every event; waits at most `wait_s` for cgroups that were not seen before."""
        missed = _assign_container(events, self._by_origin)
        self._hits += len(events) - len(missed)
        if missed:
            await self._look_up(missed)

    async def _look_up(self, events: list[ProcessEvent]) -> None:
        waiting: dict[int, list[ProcessEvent]] = {}
        now = trio.current_time()
        for event in events:
            cgroup: int = _read_origin(event.origin)[_CGROUP]
            known = self._by_cgroup.get(cgroup)
            if known is None and (for_now := self._for_now.get(cgroup)) is not None and for_now[1] > now:
                event.container = for_now[0]
                self._hits += 1
            elif known is None:
                waiting.setdefault(cgroup, []).append(event)
            else:
                self._remember(event.origin, known)
                event.container = known
                self._hits += 1
        if not waiting:
            return
        self._misses += len(waiting)
        answers: dict[int, str] = {}
        with trio.move_on_after(self._wait_s) as waited:
            async with trio.open_nursery() as nursery:
                for cgroup, its_events in waiting.items():
                    nursery.start_soon(self._find_or_not, cgroup, its_events, answers)
        if waited.cancelled_caught:
            self._is_stuck = True
        for cgroup, its_events in waiting.items():
            if cgroup not in answers:
                self._timeouts += 1
                self._keep_for_now(cgroup, _NOWHERE, _DEAD_MOUNT_S)
            for event in its_events:
                event.container = answers.get(cgroup, _NOWHERE)

    async def _find_or_not(self, cgroup: int, events: list[ProcessEvent], answers: dict[int, str]) -> None:
        try:
            await self._find(cgroup, events, answers)
        except RuntimeError:  # no thread is to be had just now
            self._without_thread += 1
            answers[cgroup] = self._keep_for_now(cgroup, _NOWHERE)

    async def _find(self, cgroup: int, events: list[ProcessEvent], answers: dict[int, str]) -> None:
        self._for_now.pop(cgroup, None)
        candidates = await self._run(partial(self._hierarchies.candidates, cgroup, events[-1].tgid), self._limiter)
        if candidates is None:
            answers[cgroup] = self._keep_for_now(cgroup, _NOWHERE)
            return
        of_root = [each for each in candidates if not each.owner]
        of_users = [each for each in candidates if each.owner]
        found = await self._run(partial(self._describe, of_root), self._limiter) if of_root else None
        if found is None and of_users:
            self._is_stuck &= not self._of_users.available_tokens
            if self._is_stuck:
                answers[cgroup] = self._keep_for_now(cgroup, _NOWHERE)
                return
            found = await self._run(partial(self._describe, of_users), self._of_users)
        if found is None and of_root:
            answers[cgroup] = self._keep_for_now(cgroup, piece(of_root[0], None))
            return
        while len(self._by_cgroup) >= self._entries:
            del self._by_cgroup[next(iter(self._by_cgroup))]
            self._evictions += 1
        answers[cgroup] = self._by_cgroup[cgroup] = found or _NOWHERE
        for event in events:
            self._remember(event.origin, answers[cgroup])

    async def _run(self, look: Callable[[], _Found], limiter: trio.CapacityLimiter) -> _Found:
        # Abandoned after the wait: a dead mount may hold the thread for ever, and its place with it.
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=limiter)

    def _describe(self, candidates: list[Candidate]) -> str | None:
        """The piece of the first that a runtime knows. Blocks."""
        for candidate in candidates:
            home = self._homes(candidate.owner) if candidate.owner else ""
            found = describe(candidate.id, candidate.owner, home, self._roots)
            if found is not None:
                return piece(candidate, found)
        return None

    def _keep_for_now(self, cgroup: int, found: str, seconds: float = _RETRY_S) -> str:
        if len(self._for_now) >= self._entries:
            self._for_now.clear()
        self._for_now[cgroup] = found, trio.current_time() + seconds
        return found

    def _remember(self, origin: bytes, found: str) -> None:
        if len(self._by_origin) >= self._entries:
            self._by_origin.clear()
        self._by_origin[origin] = found

    def statistics(self) -> Mapping[str, int]:
        return {
            "size": len(self._by_cgroup),
            "hits": self._hits,
            "misses": self._misses,
            "evictions": self._evictions,
            "timeouts": self._timeouts,
            "without_thread": self._without_thread,
            "workers_busy": self._limiter.borrowed_tokens,
        }
