# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads for work that may never end, since a file system may never answer.

A worker that is stuck is replaced, so that it holds up nothing but itself; if it comes back, it ends. Only so many
are replaced.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import structlog
import trio

from pipeline.enrich.digests import Progress

log = structlog.get_logger()

_Result = TypeVar("_Result")


class Task(Generic[_Result]):
    """Something to do in a worker."""

    __slots__ = ("_done", "_may_be_dropped", "_work", "device", "is_dropped", "result")

    def __init__(
        self,
        device: int,
        work: Callable[[Progress], _Result],
        done: Callable[[_Result], None],
        *,
        may_be_dropped: bool,
    ) -> None:
        """`device`: of what it may wait for."""
        self.device = device
        self._may_be_dropped = may_be_dropped
        self._work = work
        self._done = done
        self.is_dropped = False
        self.result: _Result | None = None

    def drop(self) -> None:
        """It need not be done any more, if it has not begun and leaves nothing behind."""
        self.is_dropped = self._may_be_dropped

    def run(self, progress: Progress) -> None:
        try:
            self.result = self._work(progress)
        except Exception as error:  # one file must not end all; who asks for it goes without when its time is over
            log.error("a worker failed with a file", reason=repr(error))

    def finish(self) -> None:
        if self.result is not None:
            self._done(self.result)


class _Worker:
    def __init__(self) -> None:
        self.task: Task[Any] | None = None
        self.at = 0.0
        """When its file system answered last (monotonic)."""
        self.is_replaced = False

    def progress(self) -> None:
        self.at = time.monotonic()


class Workers:
    """At most `number` threads that work, and `most_hung` that are stuck; started when there is something to do."""

    def __init__(self, *, number: int, most_hung: int, hung_s: float) -> None:
        """A worker is stuck once its file system has not answered for `hung_s`."""
        self._number = number
        self._most_hung = most_hung
        self._hung_s = hung_s
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._finished: deque[Task[Any]] = deque()
        self._workers: list[_Worker] = []
        self._token: trio.lowlevel.TrioToken | None = None
        self._collected: Callable[[], None] = lambda: None
        self._is_short = False
        """Whether the last thread that was wanted could not be had."""
        self.replaced = 0

    def start(self, collected: Callable[[], None]) -> None:
        """Call from the trio thread; `collected` is called there whenever tasks have finished."""
        self._token = trio.lowlevel.current_trio_token()
        self._collected = collected

    def submit(self, task: Task[Any]) -> None:
        self._tasks.put(task)
        if len(self._workers) - self.hung < self._number:
            self._add()

    def _add(self) -> bool:
        worker = _Worker()
        self._workers.append(worker)
        try:
            # Daemons: one that is stuck must not hold up the end.
            threading.Thread(target=self._run, args=(worker,), name="hookline-hash", daemon=True).start()
        except RuntimeError:  # none is to be had just now: the next call tries again
            self._workers.remove(worker)
            if not self._is_short:
                log.warning("no thread for hashing files can be had: files wait for one")
            self._is_short = True
            return False
        self._is_short = False
        return True

    def _run(self, worker: _Worker) -> None:
        while not worker.is_replaced and (task := self._tasks.get()) is not None:
            if task.is_dropped:
                continue
            worker.progress()
            worker.task = task
            task.run(worker.progress)
            worker.task = None
            self._finished.append(task)
            self._tell()
        self._workers.remove(worker)

    def _tell(self) -> None:
        assert self._token is not None
        try:
            self._token.run_sync_soon(self._collect, idempotent=True)
        except trio.RunFinishedError:
            return

    def _collect(self) -> None:
        while self._finished:
            self._finished.popleft().finish()
        self._collected()

    def replace_stuck(self) -> None:
        """Put others in the place of those that are stuck; call now and then."""
        for worker in self._stuck():
            if worker.is_replaced or self.hung >= self._most_hung:
                continue
            worker.is_replaced = True
            # It may have come to an end just now, and wait for the next task.
            if worker.task is None or not self._add():
                worker.is_replaced = False
                continue
            self.replaced += 1
        if self.queued and len(self._workers) - self.hung < self._number:
            self._add()

    def _stuck(self) -> list[_Worker]:
        late = time.monotonic() - self._hung_s
        return [worker for worker in tuple(self._workers) if worker.task is not None and worker.at < late]

    def stuck_devices(self) -> frozenset[int]:
        """What replaced threads wait for."""
        tasks = [worker.task for worker in tuple(self._workers) if worker.is_replaced]
        return frozenset(task.device for task in tasks if task is not None)

    @property
    def hung(self) -> int:
        """Threads that are stuck and have been replaced."""
        return sum(worker.is_replaced for worker in tuple(self._workers))

    @property
    def queued(self) -> int:
        """Tasks that no thread has taken, dropped ones too."""
        return self._tasks.qsize()

    @property
    def busy(self) -> int:
        """Threads that are at work, stuck or not."""
        return sum(worker.task is not None for worker in tuple(self._workers))

    def close(self) -> None:
        """Let the threads end that can."""
        for _ in tuple(self._workers):
            self._tasks.put(None)
