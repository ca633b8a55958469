# SPDX-License-Identifier: GPL-2.0-or-later
"""What the file sink does when the disk is full or fails, and when it syncs."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import textwrap
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from trio.testing import wait_all_tasks_blocked

from sinks.file.sink import open_sink
from sinks.protocol import SinkUnavailable
from tests.unit.sinks.doubles import (
    Batch,
    batch,
    everything,
    file_config,
    until_counted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio.testing import MockClock

    from sinks.protocol import Schema

TMPFS_BYTES = 128 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    place = tmp_path / "small"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        pytest.skip("this container may not mount a tmpfs")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Noise(Batch):
    """Lines that zstd cannot make much smaller: a full disk stays full."""

    def encoded(self, schema: Schema) -> bytes:
        noise = random.Random(0).randbytes
        return b"".join(b'{"n":%d,"noise":"%s"}\n' % (n, b64encode(noise(2000))) for n in self.numbers)


def failing_write(code: int, part: int) -> Callable[..., None]:
    """A write that gets some bytes out and then fails, as on a disk that fills up."""

    def write(fd: int, *pieces: bytes) -> None:
        os.write(fd, b"".join(pieces)[:part])
        raise OSError(code, os.strerror(code))

    return write


async def test_full_disk(small_disk: Path) -> None:
    """On a full disk a batch leaves no trace; once there is room, the same batch is taken."""
    path = small_disk / "events.ndjson"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (TMPFS_BYTES // 2))
    async with open_sink(file_config(path)) as sink:
        taken = 0
        reason = ""
        while not reason:
            try:
                await sink.deliver(batch(taken, padding=3000))
            except SinkUnavailable as error:
                reason = str(error)
            else:
                taken += 1
        assert reason == "No space left on device"
        before = path.stat().st_size
        for _ in range(3):
            with pytest.raises(SinkUnavailable):
                await sink.deliver(batch(taken, padding=3000))
        assert path.stat().st_size == before
        assert sink.statistics()["write_errors"] == 4
        assert sink.statistics()["lines"] == taken
        ballast.unlink()
        await sink.deliver(batch(taken, padding=3000))
        assert sink.statistics()["bytes"] == path.stat().st_size
    assert everything(path) == list(range(taken + 1))


async def test_full_disk_with_rotation(small_disk: Path) -> None:
    """Rotation and compression on a full disk fail without harm: all acknowledged lines are there."""
    path = small_disk / "events.ndjson"
    acknowledged = []
    async with open_sink(file_config(path, rotate_bytes=20_000, keep=0)) as sink:
        for number in range(200):
            try:
                await sink.deliver(Noise((number,)))
            except SinkUnavailable:
                continue
            acknowledged.append(number)
        counted = sink.statistics()
    assert counted["write_errors"] == 200 - len(acknowledged) > 0
    assert counted["rotations"] > 0
    assert everything(path) == acknowledged


def test_limit_on_file_size(tmp_path: Path) -> None:
    """At RLIMIT_FSIZE, which gives a real short write, the file keeps whole batches only."""
    path = tmp_path / "events.ndjson"
    program = f"""
        import resource, trio
        from sinks.file.sink import open_sink
        from sinks.protocol import SinkUnavailable
        from tests.unit.sinks.doubles import batch, file_config
        from pathlib import Path

        async def main():
            async with open_sink(file_config(Path({str(path)!r}))) as sink:
                for number in range(100):
                    try:
                        await sink.deliver(batch(number, padding=777))
                    except SinkUnavailable as error:
                        print(number, error)
                        return

        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        trio.run(main)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    number, reason = result.stdout.strip().split(" ", 1)
    assert reason == "File too large"
    assert everything(path) == list(range(int(number)))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
async def test_write_that_fails_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Whatever the error, what was written of the batch is taken back and the error's text handed on."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr("sinks.file.log.write_all", failing_write(code, part=30))
            with pytest.raises(SinkUnavailable, match=f"^{os.strerror(code)}$"):
                await sink.deliver(batch(1, 2, 3))
        assert everything(path) == [0]
        await sink.deliver(batch(1, 2, 3))
        assert sink.statistics()["lines"] == 4
    assert everything(path) == [0, 1, 2, 3]


async def test_a_later_piece_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch in several pieces of which the last finds no room leaves nothing; offered again, it is there once."""
    path = tmp_path / "events.ndjson"
    whole = batch(1, 2, 3)
    monkeypatch.setattr(type(whole), "pieces", lambda self, schema: self.encoded(schema).splitlines(keepends=True))

    def failing(fd: int, *pieces: bytes) -> None:
        for piece in pieces:
            if b'"n":3' in piece:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.write(fd, piece)

    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr("sinks.file.log.write_all", failing)
            with pytest.raises(SinkUnavailable):
                await sink.deliver(whole)
        assert everything(path) == [0]
        await sink.deliver(whole)
    assert everything(path) == [0, 1, 2, 3]


async def test_half_a_batch_that_cannot_be_taken_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If even truncating fails, nothing is appended until it has succeeded."""
    path = tmp_path / "events.ndjson"

    def truncate(fd: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr("sinks.file.log.os.ftruncate", truncate)
            with monkeypatch.context() as inner:
                inner.setattr("sinks.file.log.write_all", failing_write(errno.EIO, part=30))
                with pytest.raises(SinkUnavailable):
                    await sink.deliver(batch(1))
            with pytest.raises(SinkUnavailable):
                await sink.deliver(batch(1))
        await sink.deliver(batch(1))
    assert everything(path) == [0, 1]


async def test_fsync_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``always``, a batch whose fsync fails is taken back: the next fsync would not notice its loss."""
    path = tmp_path / "events.ndjson"

    def fsync(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with open_sink(file_config(path, fsync="always")) as sink:
        await sink.deliver(batch(0))
        with monkeypatch.context() as patch:
            patch.setattr("sinks.file.log.os.fsync", fsync)
            with pytest.raises(SinkUnavailable, match="Input/output error"):
                await sink.deliver(batch(1))
        assert everything(path) == [0]
        await sink.deliver(batch(1))
        assert sink.statistics()["fsyncs"] == 2
    assert everything(path) == [0, 1]


async def test_no_descriptor_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock) -> None:
    """Where there is no descriptor to sync by, that is counted, and the next time makes up for it."""
    path = tmp_path / "events.ndjson"

    def none_left(_fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with open_sink(file_config(path, fsync="interval", fsync_interval_s=5.0)) as sink:
        with monkeypatch.context() as patch:
            patch.setattr("sinks.file.log.os.dup", none_left)
            await sink.deliver(batch(0))
            await wait_all_tasks_blocked()
            mock_clock.jump(5)
            await wait_all_tasks_blocked()
        assert sink.statistics().items() >= {"fsyncs": 0, "fsync_errors": 1}.items()
        mock_clock.jump(5)
        await until_counted(sink, fsyncs=1)


async def test_fsync_once_an_interval(tmp_path: Path, mock_clock: MockClock) -> None:
    """With ``interval``, one fsync covers all lines of an interval, and an idle file is not synced at all."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, fsync="interval", fsync_interval_s=5.0)) as sink:
        for number in range(10):
            await sink.deliver(batch(number))
        assert sink.statistics()["fsyncs"] == 0
        await wait_all_tasks_blocked()
        mock_clock.jump(5)
        await until_counted(sink, fsyncs=1)
        for _ in range(3):
            await wait_all_tasks_blocked()
            mock_clock.jump(5)
        await wait_all_tasks_blocked()
        assert sink.statistics()["fsyncs"] == 1
        await sink.deliver(batch(10))
    assert sink.statistics()["fsyncs"] == 2
