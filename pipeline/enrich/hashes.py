# SPDX-License-Identifier: GPL-2.0-or-later
"""Digests of the files that events name, remembered by the files' identity, so that a digest needs no age.

An event whose file is not known waits for it. For a moment (`order_ms`) everything behind waits as well, and as a rule
that is enough and keeps the order. After that the event waits alone, with what comes later from its process, and the
others go ahead. A file that was just created is hashed when its creator has closed it; only its own event waits for
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import trio

from pipeline.enrich.assignment import assignment
from pipeline.enrich.digests import Digest, Place
from pipeline.enrich.held import Held, Order
from pipeline.enrich.jobs import Job, Jobs
from pipeline.passing import Take
from pipeline.settings import Hashes as Settings
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.fields import HashedFile
from probes.identity import NO_FILE, CreatedId, FileId

_RETRY_S = 1.0
_DEAD_MOUNT_S = 30.0
"""After a time-out every event of that file would wait as long again."""

_END_S = 1.0
"""Seconds that are waited at the end for what is still being hashed."""

_EXECUTABLE = HashedFile("exe_file", "exe", "exe_md5", "exe_hash_status", "exe_sha256")
_assign_digest = assignment(_EXECUTABLE.file, _EXECUTABLE.md5, _EXECUTABLE.status)
_NOT_CREATED = CreatedId(0, 0, 0, 0).pack()


class _Wanted(NamedTuple):
    """A file of an event, and where the answer goes."""

    event: ProcessEvent
    fields: HashedFile
    key: bytes

    @property
    def is_created(self) -> bool:
        return len(self.key) == len(_NOT_CREATED)

    def place(self) -> Place:
        path: bytes = getattr(self.event, self.fields.path)
        if self.is_created:
            fd: int = getattr(self.event, "fd", -1)
            return Place(self.event.tgid, self.key, CreatedId.unpack(self.key), path, fd=fd)
        is_executable = self.fields is _EXECUTABLE
        return Place(self.event.tgid, self.key, FileId.unpack(self.key), path, is_executable=is_executable)

    def answer(self, digest: Digest) -> None:
        setattr(self.event, self.fields.md5, digest.md5)
        setattr(self.event, self.fields.status, digest.status)
        setattr(self.event, self.fields.sha256, digest.sha256)


_Waiter = tuple[Held, _Wanted]


def sha256_fields(kinds: Iterable[type[HostEvent]]) -> frozenset[str]:
    """The names of the fields that are empty where SHA-256 is not asked for."""
    others = (kind.hashed_file for kind in kinds if issubclass(kind, ProcessEvent))
    return frozenset(fields.sha256 for fields in (_EXECUTABLE, *others) if fields is not None)


class Hashes:
    """Digests by file identity; of too many, what no event asked for longest is forgotten.

    `run` must run while `enrich` is used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[bytes, tuple[str, str]] = {}
        self._sha256: dict[bytes, str] = {}
        self._failed: dict[bytes, tuple[Digest, float, bool]] = {}
        """What could not be hashed, until when that is not tried again, and whether a path was known."""
        self._jobs: Jobs[_Waiter] = Jobs(settings, self._settled)
        self._order = Order()
        self._hits = self._misses = self._evictions = 0
        self._without = {"timeout": 0, "rate_limited": 0, "open": 0}
        """How often an event named a file and went without its digest."""

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set the digests and their statuses; those that `without_late` leaves out get theirs later."""
        known = self._known
        waiting = [
            _Wanted(event, _EXECUTABLE, event.exe_file)
            for event in _assign_digest(events, known)
            if event.exe_file != NO_FILE
        ]
        others = 0
        kinds: set[type[ProcessEvent]] = set(map(type, events))
        if any(kind.hashed_file is not None for kind in kinds):
            for event in events:
                if event.hashed_file is not None:
                    others += self._look_at_other(event, event.hashed_file, waiting)
        if len(known) > self._settings.cache_entries // 2:  # before that, nothing is near to being forgotten
            for key in {event.exe_file for event in events}:
                self._use(key)
        self._misses += len(waiting)
        self._hits += len(events) + others - len(waiting)
        if self._settings.sha256:
            for event in events:
                event.exe_sha256 = self._sha256.get(event.exe_file, UNKNOWN)
        if waiting or self._order:
            await self._wait(events, waiting)

    def _use(self, key: bytes) -> None:
        """Make it the last to be forgotten."""
        digest = self._known.pop(key, None)
        if digest is not None:
            self._known[key] = digest

    def _look_at_other(self, event: ProcessEvent, fields: HashedFile, waiting: list[_Wanted]) -> bool:
        """Whether the event names a file that is to be hashed."""
        wanted = _Wanted(event, fields, getattr(event, fields.file))
        if wanted.key in {NO_FILE, _NOT_CREATED} or (wanted.is_created and not self._settings.created_files):
            return False
        digest = self._known.get(wanted.key)
        if digest is not None:
            self._use(wanted.key)
            wanted.answer(Digest(*digest, self._sha256.get(wanted.key, UNKNOWN)))
        else:
            waiting.append(wanted)
        return True

    async def _wait(self, events: list[ProcessEvent], waiting: list[_Wanted]) -> None:
        held: dict[int, Held] = {}
        jobs: list[Job[_Waiter]] = []
        for wanted in self._with_path_first(waiting):
            found = self._job_of(wanted)
            if isinstance(found, Digest):
                wanted.answer(found)
                self._count(found)
            else:
                one = held.setdefault(id(wanted.event), Held(wanted.event))
                one.missing += 1
                one.is_alone &= wanted.is_created
                found.waiting.append((one, wanted))
                jobs.append(found)
        # Where some have fallen behind, the workers are busy: to wait for them would hold up everything.
        if jobs and not self._order:
            with trio.move_on_after(self._settings.order_ms / 1000):
                while any(not job.is_settled and job.written is None for job in jobs):
                    await self._jobs.news.wait()
        if self._order.detach(events, held) > self._settings.waiting_events:
            self._jobs.give_up_all()

    def _with_path_first(self, waiting: list[_Wanted]) -> list[_Wanted]:
        """Of the events that ask for one file, the first must be one that knows a path: its process may be gone."""
        return sorted(waiting, key=lambda wanted: not getattr(wanted.event, wanted.fields.path))

    def _job_of(self, wanted: _Wanted) -> Job[_Waiter] | Digest:
        """Who finds out about a file; or what is known of it."""
        job = self._jobs.find(wanted.key)
        if job is not None:
            return job
        place = wanted.place()
        failure = self._failed.get(wanted.key)
        if failure is not None and failure[1] <= trio.current_time():
            del self._failed[wanted.key]
        elif failure is not None and (failure[2] or not place.path):
            return failure[0]
        return self._jobs.start(place)

    def _settled(self, job: Job[_Waiter], digest: Digest) -> None:
        self._remember(job.place, digest)
        for one, wanted in job.waiting:
            self._count(digest)
            wanted.answer(digest)
            self._order.let_go(one)
        job.waiting.clear()

    def _remember(self, place: Place, digest: Digest) -> None:
        key = digest.identity or place.key
        self._failed.pop(key, None)
        if not digest.identity:
            if isinstance(place.identity, CreatedId):
                return  # nobody asks for it again
            while len(self._failed) >= self._settings.cache_entries:
                del self._failed[next(iter(self._failed))]
            until = trio.current_time() + (_DEAD_MOUNT_S if digest.status == "timeout" else _RETRY_S)
            self._failed[key] = (digest, until, bool(place.path) or digest.status == "timeout")
            return
        self._known.pop(key, None)
        while len(self._known) >= self._settings.cache_entries:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._sha256.pop(oldest, None)
            self._evictions += 1
        self._known[key] = digest.md5, digest.status
        if digest.sha256 != UNKNOWN:
            self._sha256[key] = digest.sha256

    def _count(self, digest: Digest) -> None:
        if digest.status in self._without:
            self._without[digest.status] += 1

    def without_late(self, events: list[HostEvent]) -> list[HostEvent]:
        """What goes on now, of the events that were enriched last and of those that were late."""
        return self._order.without_late(events)

    async def run(
        self,
        pass_on: Take,
        ended: trio.Event,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Pass on what is late when it is ready; ends after `ended`, when nothing is late any more."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._jobs.run)
            nursery.start_soon(self._end, ended)
            task_status.started()
            while True:
                if ready := self._order.take_ready():
                    await pass_on(ready)
                elif ended.is_set() and not self._order.held:
                    break
                else:
                    await self._jobs.news.wait()
            nursery.cancel_scope.cancel()

    async def _end(self, ended: trio.Event) -> None:
        await ended.wait()
        self._jobs.leave_written()
        self._jobs.notify()
        await trio.sleep(_END_S)
        self._jobs.give_up_all()

    def is_known(self, file: bytes) -> bool:
        """Whether a file of that identity needs no look at it."""
        return file in self._known

    def md5_of(self, file: bytes) -> str:
        """The digest of a file of that identity, if it is known; else empty."""
        md5, _status = self._known.get(file, ("", ""))
        return md5 if md5 != UNKNOWN else ""

    def statistics(self) -> Mapping[str, int]:
        return {
            "size": len(self._known),
            "failures": len(self._failed),
            "hits": self._hits,
            "misses": self._misses,
            "evictions": self._evictions,
            **self._without,
            "waiting_events": self._order.held,
            **self._jobs.statistics(),
        }
