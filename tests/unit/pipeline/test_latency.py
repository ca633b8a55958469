# SPDX-License-Identifier: GPL-2.0-or-later
"""From the kernel to the acknowledgement: which seconds are counted, for how many events."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pipeline import batch as batch_module
from pipeline.latency import times_of
from pipeline.spooled import Spooled
from probes.process.execve import Execve
from sinks.spool import SpoolConfig
from tests.unit.pipeline.doubles import Shop, configs, delivering
from tests.unit.pipeline.samples import SECOND, batch_of, made


@given(st.integers(0, 400))
def test_every_event_is_stood_for(number: int) -> None:
    """However many events a list has, a few of them stand for all, evenly, the first among them."""
    events = [made(Execve, time_ns=index) for index in range(1, number + 1)]
    times = times_of(events)
    assert sum(weight for _time, weight in times) == number
    assert len(times) <= 16
    assert number > 16 or times == [(index, 1) for index in range(1, number + 1)]
    assert [time for time, _weight in times[:1]] == [1] * bool(number)


async def test_from_the_kernel_to_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch counts when its sink has acknowledged it, with the time since each of its events."""
    monkeypatch.setattr(batch_module, "boot_ns", lambda: 20 * SECOND)
    shop = Shop(prepare=lambda _sink: None)
    async with delivering(shop, configs("a")) as running:
        events = [made(Execve, time_ns=at * SECOND, sequence=at) for at in (10, 19)]
        await running.send.send(batch_of(*events))
        running.sent = 2
        await trio.testing.wait_all_tasks_blocked()
        latency = running.delivery.latencies()["a"]
        assert latency.cumulative()[-1] == ("+Inf", 0)
        shop.sink().gate.set()
        await trio.testing.wait_all_tasks_blocked()
        assert latency.sum_s == pytest.approx(11)
        assert dict(latency.cumulative())["1.0"] == 1
        assert dict(latency.cumulative())["10.0"] == 2


async def test_what_waited_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch from the spool counts with the time since it was stored: its own clock may be another boot's."""
    monkeypatch.setattr(batch_module, "boot_ns", lambda: 2000 * SECOND)
    spool = SpoolConfig(path=str(tmp_path / "spool.db"))
    shop = Shop(prepare=lambda _sink: None)
    async with delivering(shop, configs("a", when_full="spool", queue_batches=1), spool=spool) as running:
        await running.offer(1, 1, 1, 1, 1)
        with trio.fail_after(5):
            while running.delivery.statistics()["sink_a"]["spool_batches"] < 3:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.01)
        shop.sink().gate.set()
    buckets = dict(running.delivery.latencies()["a"].cumulative())
    assert (buckets["100.0"], buckets["1000.0"], buckets["+Inf"]) == (3, 3, 5)
    [(age, number)] = Spooled(b"{}\n", {59: 1}, time.time() - 5).ages()
    assert (round(age), number) == (5, 1)
