# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are being looked for, read, or waited for: each once, whoever asks for it, and each within a time."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, count
from typing import Generic, NamedTuple, TypeVar

import structlog
import trio

from pipeline.enrich.closings import Closings
from pipeline.enrich.digests import Budget, Digest, Hasher, Place, Progress, is_written, open_created
from pipeline.enrich.workers import Task, Workers
from pipeline.settings import Hashes as Settings
from probes.identity import CreatedId

log = structlog.get_logger()

_LEAST_HUNG_S = 0.1
_MOST_UNHEARD = 1024

_Waiter = TypeVar("_Waiter")


class _Written(NamedTuple):
    """A created file that its creator still has open for writing."""

    fd: int
    watch: int


class Job(Generic[_Waiter]):
    """One file."""

    __slots__ = ("deadline", "is_settled", "place", "reserved", "task", "waiting", "written")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.waiting: list[_Waiter] = []
        """Who asks for it."""
        self.written: _Written | None = None
        """Not None: its creator has it open, and that may take its time."""
        self.deadline = 0.0
        self.task: Task[Digest | _Written] | None = None
        self.is_settled = False
        self.reserved = False
        """Whether it counts among the files that are kept open."""


class Jobs(Generic[_Waiter]):
    """`run` must run while `start` is used; blocking calls are made in workers."""

    def __init__(self, settings: Settings, settled: Callable[[Job[_Waiter], Digest], None]) -> None:
        """`settled` is called once for each job, and again if its file answers after its time."""
        self._settings = settings
        self._settled = settled
        budget = Budget(settings.bytes_per_s)
        self._hasher = Hasher(max_bytes=settings.max_bytes, sha256=settings.sha256, budget=budget)
        self._hung_s = max(settings.wait_s, _LEAST_HUNG_S)
        self._workers = self._new_workers()
        self._by_key: dict[bytes, Job[_Waiter]] = {}
        self._watched: dict[int, list[Job[_Waiter]]] = {}
        """By watch; a file system may show one file as several."""
        self._unheard: set[int] = set()
        """Watches that were over before their file was known to be written to."""
        self._open = 0
        self._deadlines: list[tuple[float, int, Job[_Waiter]]] = []
        self._numbers = count()
        self._closings: Closings | None = None
        self.news = trio.Event()
        """Set, and replaced, when something has changed."""

    def _new_workers(self) -> Workers:
        return Workers(number=self._settings.workers, most_hung=self._settings.hung_workers, hung_s=self._hung_s)

    def find(self, key: bytes) -> Job[_Waiter] | None:
        """The job of that file, if there is one."""
        return self._by_key.get(key)

    def start(self, place: Place) -> Job[_Waiter] | Digest:
        """Look for a file; or why that is not done."""
        if place.size > self._settings.max_bytes:
            return Digest(status="too_big")
        if place.identity.device in self._workers.stuck_devices():
            return Digest(status="timeout")
        if max(len(self._by_key), self._workers.queued) >= self._settings.waiting_files:
            return Digest(status="rate_limited")
        job: Job[_Waiter] = Job(place)
        self._by_key[place.key] = job
        if isinstance(place.identity, CreatedId):
            job.reserved = self._open < self._settings.open_files
            self._open += job.reserved
            self._submit(job, partial(self._created, place, job.reserved))
        else:
            self._submit(job, partial(self._hasher.known_file, place))
        return job

    def _submit(
        self, job: Job[_Waiter], work: Callable[[Progress], Digest | _Written], *, may_be_dropped: bool = True
    ) -> None:
        job.task = Task(job.place.identity.device, work, partial(self._found, job), may_be_dropped=may_be_dropped)
        self._set_deadline(job, self._settings.wait_s)
        self._workers.submit(job.task)

    def _set_deadline(self, job: Job[_Waiter], seconds: float) -> None:
        job.deadline = trio.current_time() + seconds
        heapq.heappush(self._deadlines, (job.deadline, next(self._numbers), job))
        if len(self._deadlines) > 2 * self._settings.waiting_files:  # most are over long before their time
            self._deadlines = [
                each for each in self._deadlines if each[0] == each[2].deadline and not each[2].is_settled
            ]
            heapq.heapify(self._deadlines)
        if self._deadlines[0][2] is job:
            self.notify()

    def _created(self, place: Place, may_wait: bool, progress: Progress) -> Digest | _Written:
        """In a worker."""
        opened = open_created(place)
        if isinstance(opened, Digest):
            return opened
        fd, status = opened
        progress()
        closings = self._closings
        # First the watch, then the look: a close between the two is seen by both.
        watch = closings.add(fd) if may_wait and closings is not None else -1
        if is_written(place, status):
            if watch >= 0:
                return _Written(fd, watch)
            os.close(fd)
            return Digest(status="open")
        if closings is not None and watch >= 0:
            closings.remove(watch)
        return self._hasher.closed_file(fd, progress)

    def _leave(self, fd: int, watch: int, progress: Progress) -> None:
        """In a worker, since also to close may block; `watch` is -1 where others need it."""
        closings = self._closings  # which the end takes away meanwhile
        if closings is not None and watch >= 0:
            closings.remove(watch)
        os.close(fd)

    def _found(self, job: Job[_Waiter], found: Digest | _Written) -> None:
        job.task = None
        if isinstance(found, Digest):
            if job.is_settled:
                self._settled(job, found)
            else:
                self._settle(job, found)
        elif job.is_settled:
            self._put_away(job, found)
        elif found.watch in self._unheard:
            self._unheard.discard(found.watch)
            self._hash_written(job, found)
        else:
            self._watched.setdefault(found.watch, []).append(job)
            job.written = found
            self._set_deadline(job, self._settings.close_wait_s)
            self.notify()

    def _hash_written(self, job: Job[_Waiter], written: _Written) -> None:
        job.written = None
        self._submit(job, partial(self._hasher.closed_file, written.fd), may_be_dropped=False)

    def _put_away(self, job: Job[_Waiter], written: _Written) -> None:
        leave = partial(self._leave, written.fd, -1 if written.watch in self._watched else written.watch)
        self._workers.submit(Task(job.place.identity.device, leave, lambda _: None, may_be_dropped=False))

    def _settle(self, job: Job[_Waiter], digest: Digest) -> None:
        job.is_settled = True
        del self._by_key[job.place.key]
        self._open -= job.reserved
        self._settled(job, digest)
        self.notify()

    def give_up(self, job: Job[_Waiter]) -> None:
        """Settle a job as it is."""
        if job.is_settled:
            return
        written, task = job.written, job.task
        if written is not None:
            jobs = self._watched[written.watch]
            jobs.remove(job)
            if not jobs:
                del self._watched[written.watch]
            self._put_away(job, written)
        if task is not None:
            task.drop()
            job.task = None
        self._settle(job, Digest(status="open" if written is not None else "timeout"))

    def give_up_all(self) -> None:
        """Settle all jobs as they are."""
        for job in tuple(self._by_key.values()):
            self.give_up(job)

    def notify(self) -> None:
        """Wake who waits for `news`."""
        news, self.news = self.news, trio.Event()
        news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Obey deadlines, hear of closed files and replace stuck workers; until cancelled."""
        self._workers.start(self.notify)
        try:
            self._closings = Closings()
        except OSError as error:
            log.warning("files that are open for writing stay unhashed: inotify cannot be had", reason=error.strerror)
        task_status.started()
        try:
            async with trio.open_nursery() as nursery:
                if self._closings is not None:
                    nursery.start_soon(self._hear, self._closings)
                while True:
                    deadline = self._deadlines[0][0] if self._deadlines else math.inf
                    if self._workers.busy:
                        deadline = min(deadline, trio.current_time() + self._hung_s)
                    with trio.move_on_at(deadline):
                        await self.news.wait()
                    self._obey_deadlines()
                    self._workers.replace_stuck()
        finally:
            self._workers.close()
            self._workers = self._new_workers()
            closings, self._closings = self._closings, None
            if closings is not None:
                closings.close()

    async def _hear(self, closings: Closings) -> None:
        while True:
            await trio.lowlevel.wait_readable(closings.fd)
            for watch in closings.read():
                jobs = self._watched.pop(watch, ())
                for job in jobs:
                    assert job.written is not None
                    self._hash_written(job, job.written)
                if jobs:
                    continue
                if len(self._unheard) < _MOST_UNHEARD:
                    self._unheard.add(watch)
                else:
                    self._unheard = {watch}

    def _obey_deadlines(self) -> None:
        now = trio.current_time()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, _, job = heapq.heappop(self._deadlines)
            if deadline == job.deadline:
                self.give_up(job)

    def leave_written(self) -> None:
        """Wait no longer for files to be closed."""
        for job in tuple(chain.from_iterable(self._watched.values())):
            self.give_up(job)

    def statistics(self) -> Mapping[str, int]:
        return {
            "waiting_files": len(self._by_key),
            "open_files": self._open,
            "written_files": sum(map(len, self._watched.values())),
            "bytes": self._hasher.budget.spent,
            "workers_busy": self._workers.busy,
            "workers_hung": self._workers.hung,
            "workers_replaced": self._workers.replaced,
        }
