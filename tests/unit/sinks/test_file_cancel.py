# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cancelled delivery leaves."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from sinks.file.sink import open_sink
from tests.unit.sinks.doubles import (
    batch,
    everything,
    file_config,
    rotated,
    until,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_cancelled_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery cancelled in mid-write finishes, returns, and is counted: nobody is left in doubt."""
    path = tmp_path / "events.ndjson"
    entered = threading.Event()
    release = threading.Event()

    def slow(fd: int, *pieces: bytes) -> None:
        data = b"".join(pieces)
        os.write(fd, data[:10])
        entered.set()
        assert release.wait(30)
        os.write(fd, data[10:])

    async def release_after_cancelling(scope: trio.CancelScope) -> None:
        await until(entered.is_set)
        scope.cancel()
        release.set()

    monkeypatch.setattr("sinks.file.log.write_all", slow)
    returned = False
    async with open_sink(file_config(path)) as sink, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(release_after_cancelling, scope)
            await sink.deliver(batch(1, 2, 3))
            returned = True
        assert returned
        assert sink.statistics()["lines"] == 3
    assert everything(path) == [1, 2, 3]


async def test_cancelled_before_its_turn(tmp_path: Path) -> None:
    """A delivery cancelled before it began has written nothing, and the next one works."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        with trio.CancelScope() as scope:
            scope.cancel()
            await sink.deliver(batch(1))
        assert scope.cancelled_caught
        await sink.deliver(batch(2))
        assert sink.statistics()["batches"] == 1
    assert everything(path) == [2]


async def test_everything_at_once_while_cancelled(tmp_path: Path) -> None:
    """Whatever the cancellation hits, a sink whose surroundings are cancelled leaves a whole file."""
    path = tmp_path / "events.ndjson"
    acknowledged: list[int] = []
    with trio.CancelScope() as scope:
        async with open_sink(file_config(path, rotate_bytes=200, keep=0, fsync="interval")) as sink:
            for number in range(500):
                if number == 300:
                    scope.cancel()
                await sink.deliver(batch(number))
                acknowledged.append(number)
    assert acknowledged == list(range(300))
    assert everything(path) == acknowledged
    assert len(rotated(path)) > 10
