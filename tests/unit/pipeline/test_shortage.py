# SPDX-License-Identifier: GPL-2.0-or-later
"""A host that has no thread or process to give for a moment."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

import pytest
import trio

from pipeline.enrich.workers import Task, Workers
from probes.kernel.uprobes import News, Uprobes


async def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that no thread could be had for waits, and is done as soon as one can be had."""
    workers, done = Workers(number=1, most_hung=1, hung_s=10.0), trio.Event()
    workers.start(lambda: None)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        workers.submit(Task(0, lambda _progress: True, lambda _: done.set(), may_be_dropped=True))
    assert workers.queued == 1
    workers.replace_stuck()
    with trio.fail_after(10):
        await done.wait()
    workers.close()


def test_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that no process can be had for has failed, which is told once."""

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    uprobes, told = Uprobes([("resolve", "x", 0)]), list[News]()
    assert [uprobes.search((), 1, told.append) for _ in range(3)] == [False] * 3
    assert len(told) == 1
    assert uprobes.statistics()["stuck_searches"] == 3
