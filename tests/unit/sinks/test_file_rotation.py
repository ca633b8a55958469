# SPDX-License-Identifier: GPL-2.0-or-later
"""When the file turns over, and under which name."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sinks.file.durable import begin_writing_back
from sinks.file.sink import open_sink
from tests.unit.sinks.doubles import (
    NOON,
    Batch,
    Clock,
    batch,
    everything,
    file_config,
    numbers_in,
    rotated,
    until_counted,
)

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

DAY = 86_400.0


LINE_BYTES = len(batch(0).encoded("smith"))


async def test_size(tmp_path: Path) -> None:
    """No file exceeds ``rotate_bytes``, none is smaller than need be, and no line is lost or out of order."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=3 * LINE_BYTES, compress=False, keep=0)) as sink:
        for number in range(8):
            await sink.deliver(batch(number))
        assert sink.statistics()["rotations"] == 2
        assert sink.statistics()["file_bytes"] == 2 * LINE_BYTES
    assert [numbers_in([file]) for file in [*rotated(path), path]] == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_batch_larger_than_the_limit(tmp_path: Path) -> None:
    """A batch is never divided: one that is larger than a file may be gets a file to itself."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=LINE_BYTES, compress=False)) as sink:
        for numbers in ((0, 1, 2), (3, 4), (5,)):
            await sink.deliver(batch(*numbers))
    assert [numbers_in([file]) for file in [*rotated(path), path]] == [[0, 1, 2], [3, 4], [5]]


async def test_never(tmp_path: Path) -> None:
    """With both limits 0 the file just grows, whatever the clock says."""
    path = tmp_path / "events.ndjson"
    clock = Clock()
    async with open_sink(file_config(path), now=clock) as sink:
        for number in range(50):
            clock.now += DAY
            await sink.deliver(batch(number, padding=1000))
    assert rotated(path) == []


async def test_name_says_when_in_utc(tmp_path: Path) -> None:
    """A rotated file's name has the UTC time of its rotation and a number for those of the same second."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=1, compress=False), now=Clock()) as sink:
        for number in range(3):
            await sink.deliver(batch(number))
    assert [file.name for file in rotated(path)] == [
        "events-20231115T120000Z-0.ndjson",
        "events-20231115T120000Z-1.ndjson",
    ]


async def test_order_of_names_survives_a_clock_set_back(tmp_path: Path) -> None:
    """Also after the clock was set back, and after a restart, a later file has a later name."""
    path = tmp_path / "events.ndjson"
    config = file_config(path, rotate_bytes=1, compress=False)
    async with open_sink(config, now=Clock(NOON)) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(batch(1))
    async with open_sink(config, now=Clock(NOON - DAY)) as sink:
        await sink.deliver(batch(2))
        await sink.deliver(batch(3))
    assert everything(path) == [0, 1, 2, 3]


async def test_age_at_the_next_batch(tmp_path: Path) -> None:
    """Lines from two periods never share a file."""
    path = tmp_path / "events.ndjson"
    clock = Clock()
    async with open_sink(file_config(path, rotate_age_s=DAY, compress=False), now=clock) as sink:
        await sink.deliver(batch(0))
        clock.now += 11 * 3600
        await sink.deliver(batch(1))
        clock.now += 2 * 3600
        await sink.deliver(batch(2))
    assert [numbers_in([file]) for file in [*rotated(path), path]] == [[0, 1], [2]]


async def test_age_of_an_idle_file(tmp_path: Path, mock_clock: MockClock) -> None:
    """A file without new lines is rotated when its period ends, and an empty one is left alone."""
    path = tmp_path / "events.ndjson"
    start = NOON - mock_clock.current_time()
    config = file_config(path, rotate_age_s=30.0, compress=False)
    async with open_sink(config, now=lambda: start + mock_clock.current_time()) as sink:
        await sink.deliver(batch(0))
        await wait_all_tasks_blocked()
        mock_clock.jump(29)
        await wait_all_tasks_blocked()
        assert sink.statistics()["rotations"] == 0
        mock_clock.jump(1)
        await until_counted(sink, rotations=1, file_bytes=0)
        for _ in range(5):
            await wait_all_tasks_blocked()
            mock_clock.jump(30)
        await wait_all_tasks_blocked()
        assert sink.statistics()["rotations"] == 1
    assert numbers_in(rotated(path)) == [0]
    assert path.read_bytes() == b""


async def test_age_counts_over_restarts(tmp_path: Path) -> None:
    """A collector that restarts every hour still turns its file over once a day."""
    path = tmp_path / "events.ndjson"
    config = file_config(path, rotate_age_s=DAY, compress=False)
    for hour in range(24):
        clock = Clock(NOON + hour * 3600)
        async with open_sink(config, now=clock) as sink:
            await sink.deliver(batch(hour))
        os.utime(path, (clock.now, clock.now))
    assert [numbers_in([file]) for file in [*rotated(path), path]] == [list(range(12)), list(range(12, 24))]


@pytest.mark.parametrize("call", ["link", "unlink"])
async def test_rotation_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """If the file cannot be moved, it grows on: a file too big is better than lines lost."""
    path = tmp_path / "events.ndjson"
    real = getattr(os, call)

    def fail(source: str, *rest: object, **options: object) -> None:
        if source == str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, *rest, **options)

    async with open_sink(file_config(path, rotate_bytes=1, compress=False)) as sink:
        await sink.deliver(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr(f"sinks.file.shelf.os.{call}", fail)
            await sink.deliver(batch(1))
            assert sink.statistics()["rotate_errors"] == 1
        assert [file.name for file in tmp_path.iterdir()] == ["events.ndjson"]
        await sink.deliver(batch(2))
    assert [numbers_in([file]) for file in [*rotated(path), path]] == [[0, 1], [2]]


async def test_file_moved_away_is_not_rotated_again(tmp_path: Path) -> None:
    """If somebody renamed the file and put another in its place, that one is not what gets rotated."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=LINE_BYTES, compress=False)) as sink:
        await sink.deliver(batch(0))
        path.rename(tmp_path / "moved")
        path.write_bytes(batch(1).encoded("smith"))
        await sink.deliver(batch(2))
        assert sink.statistics()["rotations"] == 0
        assert sink.statistics()["reopens"] == 1
    assert numbers_in([tmp_path / "moved"]) == [0]
    assert numbers_in([path]) == [1, 2]


async def test_file_moved_away_without_a_successor(tmp_path: Path) -> None:
    """If somebody renamed the file and left nothing, the next rotation just opens a new one."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=LINE_BYTES, compress=False)) as sink:
        await sink.deliver(batch(0))
        path.rename(tmp_path / "moved")
        await sink.deliver(batch(1))
    assert numbers_in([tmp_path / "moved"]) == [0]
    assert numbers_in([path]) == [1]


async def test_path_without_suffix(tmp_path: Path) -> None:
    """A file name without a dot, and with characters that mean something in patterns, rotates as well."""
    path = tmp_path / "log(+)"
    async with open_sink(file_config(path, rotate_bytes=1, compress=False, keep=1)) as sink:
        for number in range(4):
            await sink.deliver(batch(number))
        await until_counted(sink, deleted=2)
    [old] = [file for file in tmp_path.iterdir() if file != path]
    assert re.fullmatch(r"log\(\+\)-\d{8}T\d{6}Z-\d+", old.name)
    assert numbers_in([old, path]) == [2, 3]


async def test_empty_batch(tmp_path: Path) -> None:
    """A batch without lines is acknowledged and changes nothing."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=1)) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(Batch(()))
    assert everything(path) == [0]


async def test_the_disk_begins_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that grows, and of the one after it, every part of 8 MiB is given to the disk once, in order."""
    parts: list[tuple[int, int, int]] = []
    news = trio.Event()

    def noting(fd: int, start: int, size: int) -> None:
        begin_writing_back(fd, start, size)
        parts.append((os.fstat(fd).st_ino, start, size))
        trio.from_thread.run_sync(news.set)

    monkeypatch.setattr("sinks.file.sink.begin_writing_back", noting)
    path = tmp_path / "events.ndjson"
    large = batch(1, padding=3 << 20)
    size = len(large.encoded("smith"))
    files = []
    async with open_sink(file_config(path, rotate_bytes=7 * size, fsync="interval", compress=False)) as sink:
        for number in range(1, 13):
            await sink.deliver(large)
            files.append(path.stat().st_ino)
            if number in {3, 6, 10}:
                await news.wait()
                news = trio.Event()
    first, second = files[0], files[-1]
    assert files == [first] * 7 + [second] * 5
    assert parts == [(first, 0, 3 * size), (first, 3 * size, 3 * size), (second, 0, 3 * size)]
