# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that go on later than those around them, and what must not overtake them."""

from __future__ import annotations

from collections import deque

from probes.event import HostEvent, ProcessEvent


class Held:
    """An event that waits for so many things."""

    __slots__ = ("event", "followers", "is_alone", "is_detached", "missing")

    def __init__(self, event: ProcessEvent) -> None:
        self.event = event
        self.missing = 0
        self.followers: list[Held] = []
        """Later events of the same process."""
        self.is_alone = True
        """Whether it waits for nothing that others need wait for."""
        self.is_detached = False
        """Whether the events around it have gone ahead."""


class Order:
    """Who goes on later: the events of one process stay in their order, but for those that wait alone."""

    def __init__(self) -> None:
        self._last: dict[int, Held] = {}
        """The last that each process is behind with."""
        self._late: set[int] = set()
        self._ready: list[HostEvent] = []
        self.held = 0
        """Events that are behind."""

    def __bool__(self) -> bool:
        return bool(self._last)

    def detach(self, events: list[ProcessEvent], held: dict[int, Held]) -> int:
        """Let all of `events` go ahead but those in `held` (by id) that still wait; gives how many are behind now."""
        for event in events:
            one = held.get(id(event))
            last = self._last.get(event.tgid)
            if one is None or not one.missing:
                if last is None:
                    continue
                one = Held(event)
            if last is not None:
                last.followers.append(one)
                one.missing += 1
            one.is_detached = True
            self.held += 1
            self._late.add(id(event))
            if not one.is_alone:
                self._last[event.tgid] = one
        return self.held

    def let_go(self, one: Held) -> None:
        """One of the things that `one` waits for is there."""
        going = deque([one])
        while going:
            one = going.popleft()
            one.missing -= 1
            if one.missing or not one.is_detached:
                continue
            self._ready.append(one.event)
            if self._last.get(one.event.tgid) is one:
                del self._last[one.event.tgid]
            going.extend(one.followers)

    def without_late(self, events: list[HostEvent]) -> list[HostEvent]:
        """Of `events` those that do not wait, in their places, behind the earlier ones that wait no more."""
        if not self._late and not self._ready:
            return events
        late, self._late = self._late, set()
        ready = self.take_ready()
        # Where too many wait, some that were detached a moment ago are given up at once.
        late -= {id(event) for event in ready}
        here = {id(event) for event in events}
        return [
            *(event for event in ready if id(event) not in here),
            *(event for event in events if id(event) not in late),
        ]

    def take_ready(self) -> list[HostEvent]:
        """The detached events that wait no more, those of one process in their order."""
        ready, self._ready = self._ready, []
        self.held -= len(ready)
        return ready
