# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of rotated files: synced, compressed, deleted, never overwritten."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from sinks.file.shelf import Shelf
from sinks.file.sink import open_sink
from tests.unit.sinks.doubles import (
    Clock,
    batch,
    content,
    everything,
    file_config,
    numbers_in,
    rotated,
    until,
    until_counted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("links", [True, False])
async def test_occupied_names_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Whatever lies where a rotated file would go keeps its content, with and without hard links."""

    def link(source: str, target: str, *, follow_symlinks: bool) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    if not links:
        monkeypatch.setattr("sinks.file.shelf.os.link", link)
    path = tmp_path / "events.ndjson"
    strangers = [
        tmp_path / "events-20231115T120000Z-1.ndjson",
        tmp_path / "events-20231115T120000Z-2.ndjson.zst",
        tmp_path / "events-20231115T120000Z-3.ndjson",
    ]
    async with open_sink(file_config(path, rotate_bytes=1, compress=False), now=Clock()) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(batch(1))
        strangers[0].write_bytes(b"mine")
        strangers[1].write_bytes(b"mine")
        strangers[2].mkdir()
        await sink.deliver(batch(2))
    assert [strangers[0].read_bytes(), strangers[1].read_bytes()] == [b"mine", b"mine"]
    assert numbers_in([tmp_path / "events-20231115T120000Z-4.ndjson"]) == [1]


async def test_keep(tmp_path: Path) -> None:
    """Of the rotated files the newest ``keep`` stay, and nothing else in the directory is touched."""
    path = tmp_path / "events.ndjson"
    strangers = {
        "events-old.ndjson",
        "events-20200101T000000Z-0.ndjson.bak",
        "other-20200101T000000Z-0.ndjson",
    }
    for name in strangers:
        (tmp_path / name).touch()
    async with open_sink(file_config(path, rotate_bytes=1, keep=2)) as sink:
        for number in range(6):
            await sink.deliver(batch(number))
        await until(lambda: [file.suffix for file in rotated(path)] == [".zst"] * 2)
    assert everything(path) == [3, 4, 5]
    assert strangers <= {file.name for file in tmp_path.iterdir()}


async def test_keep_all(tmp_path: Path) -> None:
    """``keep = 0`` deletes nothing."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, rotate_bytes=1, keep=0)) as sink:
        for number in range(12):
            await sink.deliver(batch(number))
        await until_counted(sink, compressed=11, deleted=0)
    assert everything(path) == list(range(12))


async def test_compressed_content_and_mode(tmp_path: Path) -> None:
    """A rotated file becomes a zstd file with the same bytes, mode and owner, and the plain one goes."""
    path = tmp_path / "events.ndjson"
    big = batch(*range(20_000), padding=100)
    async with open_sink(file_config(path, rotate_bytes=1, keep=0)) as sink:
        await sink.deliver(big)
        path.chmod(0o640)
        await sink.deliver(batch(1))
        await sink.deliver(batch(2))
        await until_counted(sink, compressed=2, tend_errors=0)
    first, second = rotated(path)
    assert content(first) == big.encoded("smith")
    assert first.stat().st_size < len(big.encoded("smith")) // 5
    assert stat.S_IMODE(first.stat().st_mode) == 0o640
    assert stat.S_IMODE(second.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {first.name, second.name, path.name}


async def test_compression_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is being compressed, batches are delivered and files rotated."""
    path = tmp_path / "events.ndjson"
    release = threading.Event()
    entered = threading.Event()

    def slow(name: str, stopped: Callable[[], bool]) -> bool:
        entered.set()
        return not release.wait(30)

    monkeypatch.setattr("sinks.file.shelf.compress", slow)
    async with open_sink(file_config(path, rotate_bytes=1, keep=0)) as sink:
        try:
            await sink.deliver(batch(0))
            await sink.deliver(batch(1))
            await until(entered.is_set)
            for number in range(2, 10):
                await sink.deliver(batch(number))
            assert sink.statistics()["rotations"] == 9
        finally:
            release.set()
    assert everything(path) == list(range(10))


@pytest.mark.parametrize(("fsync", "times"), [("never", 0), ("interval", 1), ("always", 1)])
async def test_rotated_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: str, times: int) -> None:
    """A file that was rotated at the last moment is synced, once, before the sink has been left."""
    path = tmp_path / "events.ndjson"
    synced: list[str] = []
    monkeypatch.setattr("sinks.file.shelf.sync_path", synced.append)
    async with open_sink(file_config(path, rotate_bytes=1, compress=False, fsync=fsync)) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(batch(1))
    assert synced == [str(file) for file in rotated(path)] * times


async def test_leaving_stops_compression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that is left gives a running compression up: the plain file stays, and no scrap beside it."""
    path = tmp_path / "events.ndjson"
    entered = threading.Event()
    stopped = threading.Event()
    real_read = os.read
    real_stop = Shelf.stop

    def read(fd: int, size: int) -> bytes:
        if size > 65_536:
            entered.set()
            assert stopped.wait(30)
        return real_read(fd, size)

    def stop(shelf: Shelf) -> None:
        real_stop(shelf)
        stopped.set()

    monkeypatch.setattr("sinks.file.compress.os.read", read)
    monkeypatch.setattr(Shelf, "stop", stop)
    async with open_sink(file_config(path, rotate_bytes=1)) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(batch(1))
        await until(entered.is_set)
    assert {file.suffix for file in tmp_path.iterdir()} == {".ndjson"}
    assert everything(path) == [0, 1]


async def test_compression_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If compression fails, the plain file stays whole, and the next rotation tries again."""
    path = tmp_path / "events.ndjson"
    real_fsync = os.fsync
    full = True

    def fsync(fd: int) -> None:
        if full and os.readlink(f"/proc/self/fd/{fd}").endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(fd)

    monkeypatch.setattr("sinks.file.compress.os.fsync", fsync)
    async with open_sink(file_config(path, rotate_bytes=1)) as sink:
        await sink.deliver(batch(0))
        await sink.deliver(batch(1))
        await until_counted(sink, tend_errors=1, compressed=0)
        assert {file.suffix for file in tmp_path.iterdir()} == {".ndjson"}
        full = False
        await sink.deliver(batch(2))
        await until_counted(sink, tend_errors=1, compressed=2)
    assert everything(path) == [0, 1, 2]
