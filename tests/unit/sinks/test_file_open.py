# SPDX-License-Identifier: GPL-2.0-or-later
"""Which files the file sink takes, and how it creates one."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from sinks.file import FileConfig
from sinks.file.sink import open_sink
from sinks.protocol import SinkError
from tests.unit.sinks.doubles import batch, everything, file_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o777])
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Set once ``tmp_path`` is there, which would otherwise be closed to its owner."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_created_for_the_owner_only(tmp_path: Path) -> None:
    """A new file has mode 0600 whatever the umask is."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(1))
    assert mode(path) == 0o600


async def test_existing_file_is_appended_to(tmp_path: Path) -> None:
    """Lines and mode of a file that exists stay; new lines follow."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(batch(1, 2).encoded("smith"))
    path.chmod(0o640)
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(3))
    assert everything(path) == [1, 2, 3]
    assert mode(path) == 0o640


async def test_schema_of_the_configuration_is_asked_for(tmp_path: Path) -> None:
    """The lines are in the schema that the table names."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path, schema="ecs")) as sink:
        await sink.deliver(batch(1))
    assert b'"schema":"ecs"' in path.read_bytes()


async def test_torn_last_line_is_ended(tmp_path: Path) -> None:
    """What a crash left of a line keeps a line to itself, and not one byte of it is lost."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(b'{"n":1}\n{"n":2,"pa')
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(3))
        await sink.deliver(batch(4))
    lines = path.read_bytes().split(b"\n")
    assert lines[:2] == [b'{"n":1}', b'{"n":2,"pa']
    assert b"\n".join(lines[2:]) == batch(3, 4).encoded("smith")


async def test_torn_last_line_is_ended_before_it_is_rotated(tmp_path: Path) -> None:
    """Rotated files end in a newline, so that they may be concatenated."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(b'{"n":1}\n{"n":2,"pa')
    async with open_sink(file_config(path, rotate_bytes=10, compress=False)) as sink:
        await sink.deliver(batch(3))
    [old] = [file for file in tmp_path.iterdir() if file != path]
    assert old.read_bytes() == b'{"n":1}\n{"n":2,"pa\n'


async def test_symbolic_link_is_refused(tmp_path: Path) -> None:
    """A link planted at the path leads nothing into the file behind it, and the error says the remedy."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "events.ndjson"
    path.symlink_to(victim)
    with pytest.raises(SinkError, match="is a symbolic link; set path to the file that it points to"):
        async with open_sink(file_config(path)):
            pass
    assert victim.read_bytes() == b"precious"


async def test_dangling_symbolic_link_is_refused(tmp_path: Path) -> None:
    """No file is created where a link points to."""
    path = tmp_path / "events.ndjson"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="is a symbolic link"):
        async with open_sink(file_config(path)):
            pass
    assert not (tmp_path / "elsewhere").exists()


async def test_fifo_is_refused_without_waiting_for_a_reader(tmp_path: Path) -> None:
    """A FIFO gives an error at once: opening it would otherwise wait for its other end."""
    path = tmp_path / "events.ndjson"
    os.mkfifo(path)
    with pytest.raises(SinkError, match="is a FIFO; set path to a regular file"):
        async with open_sink(file_config(path)):
            pass


async def test_fifo_that_comes_after_the_check_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is what was opened, not what was there a moment before."""
    path = tmp_path / "events.ndjson"
    os.mkfifo(path)
    monkeypatch.setattr("sinks.file.opening._mode", lambda _: stat.S_IFREG)
    with pytest.raises(SinkError, match="is a FIFO"):
        async with open_sink(file_config(path)):
            pass


async def test_link_that_comes_after_the_check_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that is planted between check and opening is not followed either."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "events.ndjson"
    path.symlink_to(victim)
    monkeypatch.setattr("sinks.file.opening._mode", lambda _: stat.S_IFREG)
    with pytest.raises(SinkError, match=r"symbolic link .*; remove the link"):
        async with open_sink(file_config(path)):
            pass


async def test_directory_is_refused(tmp_path: Path) -> None:
    """The error for a directory proposes a file in it."""
    with pytest.raises(SinkError, match=r"is a directory; set path to a file in it, such as .*/events\.ndjson"):
        async with open_sink(file_config(tmp_path)):
            pass


async def test_device_is_refused(tmp_path: Path) -> None:
    """A device is not opened: that alone may have effects."""
    with pytest.raises(SinkError, match="is a character device"):
        async with open_sink(file_config(tmp_path.joinpath("/dev/null"))):
            pass


async def test_missing_directory_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    """The error for a missing directory can be pasted into a shell."""
    with pytest.raises(SinkError, match=r"gone does not exist; create it \(mkdir -p"):
        async with open_sink(file_config(tmp_path / "gone" / "events.ndjson")):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_directory_without_permission(tmp_path: Path) -> None:
    """The error for a directory that is not ours says what to allow."""
    tmp_path.chmod(0o500)
    with pytest.raises(SinkError, match="Permission denied; let this user write"):
        async with open_sink(file_config(tmp_path / "events.ndjson")):
            pass


async def test_one_sink_a_file(tmp_path: Path) -> None:
    """A second sink on the same file is refused, and the first goes on as if nothing had been."""
    path = tmp_path / "events.ndjson"
    async with open_sink(file_config(path)) as sink:
        with pytest.raises(SinkError, match="in use by another sink"):
            async with open_sink(file_config(path)):
                pass
        await sink.deliver(batch(1))
        await sink.reopen()
        await sink.deliver(batch(2))
    assert everything(path) == [1, 2]


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Rotations, reopenings and refusals release what they opened."""

    async def use() -> None:
        path = tmp_path / "events.ndjson"
        async with open_sink(file_config(path, rotate_bytes=20, fsync="always")) as sink:
            for number in range(5):
                await sink.deliver(batch(number))
                await sink.reopen()
        with pytest.raises(SinkError):
            async with open_sink(file_config(tmp_path)):
                pass

    await use()
    before = len(os.listdir("/proc/self/fd"))
    await use()
    assert len(os.listdir("/proc/self/fd")) == before


def test_defaults() -> None:
    """A table with nothing but a path gives the documented defaults."""
    config = msgspec.convert({"type": "file", "path": "x"}, FileConfig)
    assert (config.schema, config.rotate_bytes, config.rotate_age_s) == ("smith", 268_435_456, 86_400)
    assert (config.keep, config.compress, config.fsync, config.fsync_interval_s) == (7, True, "interval", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"path": ""},
        {"rotate_bytes": -1},
        {"rotate_age_s": -1.0},
        {"rotate_age_s": 1e-300},
        {"path": "/tmp/a\0b"},
        {"rotate_age_s": float("nan")},
        {"keep": -1},
        {"fsync": "sometimes"},
        {"fsync_interval_s": 0},
        {"fsync_interval_s": float("nan")},
        {"rotate": 1},
        {"type": "console"},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    """A value out of range, a key that does not exist and another sink's type are errors."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"type": "file", "path": "x", **wrong}, FileConfig)
