# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches that wait for a sink are delivered together, and still counted one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from pipeline.joined import MOST, joined
from sinks.protocol import SinkUnavailable
from sinks.spool import SpoolConfig
from tests.unit.pipeline.doubles import Shop, configs, delivering, numbers
from tests.unit.pipeline.samples import batch_of, numbered


def test_as_one() -> None:
    """Joined batches have the lines, the counts, the events and the ages of all, in order."""
    batches = [batch_of(*numbered(2)), batch_of(*numbered(3, start=2))]
    one = joined(batches)
    assert one.encoded("smith") == batches[0].encoded("smith") + batches[1].encoded("smith")
    assert b"".join(one.pieces("smith")) == one.encoded("smith")
    assert (len(one), dict(one.counts)) == (5, {59: 5})
    assert [number for _age, number in one.ages()] == [1] * 5
    assert joined(batches[:1]) is batches[0]


@pytest.mark.parametrize("when_full", ["block", "spool"])
async def test_what_waits_goes_together(when_full: str, tmp_path: Path) -> None:
    """What gathered behind a slow delivery goes in one, up to a bound, in order; what fails is offered as it was."""
    shop = Shop(prepare=lambda _sink: None)
    spool = SpoolConfig(path=str(tmp_path / "spool.db"))
    async with delivering(shop, configs("a", when_full=when_full, queue_batches=20), spool=spool) as running:
        await running.offer(1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await running.offer(*[1] * 12)
        await trio.testing.wait_all_tasks_blocked(0.01)
        shop.sink().gate.set()
        shop.sink().troubles = [SinkUnavailable("down")]
    assert shop.taken() == numbers(13)
    assert len(shop.sink().tries) == 1 + 1 + 1 + 1, "one alone, eight that are refused once, the other four"
    assert running.account() == {"offered": 13, "delivered": 13}
    assert MOST == 8


async def test_a_short_queue_bounds_it() -> None:
    """No more go together than may wait, so a sink with a queue of one has each batch alone."""
    shop = Shop(prepare=lambda _sink: None)
    async with delivering(shop, configs("a", when_full="block", queue_batches=1)) as running:
        await running.offer(*[1] * 6)
        await trio.testing.wait_all_tasks_blocked()
        shop.sink().gate.set()
    assert len(shop.sink().tries) == 6
