# SPDX-License-Identifier: GPL-2.0-or-later
"""What the file sink does when somebody deletes, replaces, empties or renames its file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sinks.file.sink import open_sink
from sinks.protocol import SinkError, SinkUnavailable
from tests.unit.sinks.doubles import (
    batch,
    everything,
    file_config,
    numbers_in,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_deleted_file(tmp_path: Path) -> None:
    """If the file was deleted, the next batch goes to a new one instead of nowhere."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        path.unlink()
        await sink.deliver(batch(1))
        assert sink.statistics()["reopens"] == 1
    assert everything(path) == [1]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_replaced_file(tmp_path: Path) -> None:
    """If another file was renamed onto ours, lines go to that one."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        (tmp_path / "other").write_bytes(batch(7).encoded("smith"))
        (tmp_path / "other").rename(path)
        await sink.deliver(batch(1))
    assert everything(path) == [7, 1]


async def test_emptied_file(tmp_path: Path) -> None:
    """If the file was truncated (logrotate's copytruncate), lines go to its new end, with no hole before."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        os.truncate(path, 0)
        await sink.deliver(batch(1))
    assert everything(path) == [1]


async def test_deleted_directory(tmp_path: Path) -> None:
    """If the directory is gone, batches are refused until it is back."""
    path = tmp_path / "logs" / "events.ndjson"
    path.parent.mkdir()
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        path.unlink()
        path.parent.rmdir()
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="logs does not exist; create it"):
                await sink.deliver(batch(1))
        path.parent.mkdir()
        await sink.deliver(batch(1))
    assert everything(path) == [1]


async def test_link_planted_while_running(tmp_path: Path) -> None:
    """A link that takes the deleted file's place is not followed."""
    path = tmp_path / "events.ndjson"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    async with open_sink(file_config(path)) as sink:
        path.unlink()
        path.symlink_to(victim)
        with pytest.raises(SinkUnavailable, match="is a symbolic link"):
            await sink.deliver(batch(0))
        path.unlink()
        await sink.deliver(batch(0))
    assert victim.read_bytes() == b"precious"
    assert everything(path) == [0]


@pytest.mark.parametrize("fsync", ["never", "interval", "always"])
async def test_reopen(tmp_path: Path, fsync: str) -> None:
    """logrotate renames and signals: lines before the signal are in the old file, later ones in a new one."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, fsync=fsync)) as sink:
        await sink.deliver(batch(0))
        path.rename(tmp_path / "events.ndjson.1")
        await sink.deliver(batch(1))
        await sink.reopen()
        assert sink.statistics()["fsyncs"] == {"never": 0, "interval": 1, "always": 2}[fsync]
        await sink.deliver(batch(2))
        assert sink.statistics()["reopens"] == 1
    assert numbers_in([tmp_path / "events.ndjson.1"]) == [0, 1]
    assert everything(path) == [2]


async def test_reopen_that_fails(tmp_path: Path) -> None:
    """If the path cannot be opened anew, the error says why and the old file goes on being used."""
    path = tmp_path / "events.ndjson"
    moved = tmp_path / "moved"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        path.rename(moved)
        path.mkdir()
        with pytest.raises(SinkError, match="is a directory"):
            await sink.reopen()
        with pytest.raises(SinkError, match="in use"):
            async with open_sink(file_config(moved)):
                pass
        await sink.deliver(batch(1))
        path.rmdir()
        await sink.reopen()
        await sink.deliver(batch(2))
    assert numbers_in([moved]) == [0, 1]
    assert everything(path) == [2]
