# SPDX-License-Identifier: GPL-2.0-or-later
"""What a new start finds after a crash, and makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import zstandard

from sinks.file.sink import open_sink
from tests.unit.sinks.doubles import (
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
    from pathlib import Path

OLD = "events-20231115T120000Z-0.ndjson"


async def test_rotated_but_not_compressed(tmp_path: Path) -> None:
    """A plain rotated file from before the crash is compressed at the start, without any rotation."""
    path = tmp_path / "events.ndjson"
    (tmp_path / OLD).write_bytes(batch(0, 1).encoded("smith"))
    async with open_sink(file_config(path)) as sink:
        await until_counted(sink, compressed=1, rotations=0)
    assert [file.name for file in rotated(path)] == [f"{OLD}.zst"]
    assert everything(path) == [0, 1]


async def test_half_compressed(tmp_path: Path) -> None:
    """The scrap of a compression is thrown away, and the compression is done again."""
    path = tmp_path / "events.ndjson"
    (tmp_path / OLD).write_bytes(batch(0, 1).encoded("smith"))
    (tmp_path / f"{OLD}.zst.tmp").write_bytes(b"(\xb5/\xfd half")
    async with open_sink(file_config(path)) as sink:
        await until_counted(sink, compressed=1)
    assert {file.name for file in tmp_path.iterdir()} == {"events.ndjson", f"{OLD}.zst"}
    assert everything(path) == [0, 1]


async def test_compressed_but_plain_not_deleted(tmp_path: Path) -> None:
    """A crash between the last two steps of a compression leaves two files, of which one remains."""
    path = tmp_path / "events.ndjson"
    data = batch(0, 1).encoded("smith")
    (tmp_path / OLD).write_bytes(data)
    (tmp_path / f"{OLD}.zst").write_bytes(zstandard.compress(data))
    async with open_sink(file_config(path)) as sink:
        await until_counted(sink, compressed=1)
    assert [content(file) for file in rotated(path)] == [data]


async def test_rotated_with_both_names_left(tmp_path: Path) -> None:
    """A crash in mid-rotation leaves one file under two names: it is the rotated one, and done with."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(batch(0).encoded("smith"))
    (tmp_path / OLD).hardlink_to(path)
    async with open_sink(file_config(path, compress=False)) as sink:
        await sink.deliver(batch(1))
    assert numbers_in([tmp_path / OLD]) == [0]
    assert numbers_in([path]) == [1]


async def test_hard_link_of_somebody_else(tmp_path: Path) -> None:
    """A file with another name elsewhere, such as a backup's, is appended to as any other."""
    path = tmp_path / "events.ndjson"
    path.write_bytes(batch(0).encoded("smith"))
    (tmp_path / "backup").hardlink_to(path)
    async with open_sink(file_config(path)) as sink:
        await sink.deliver(batch(1))
    assert numbers_in([path]) == [0, 1]


async def test_links_among_the_rotated_files(tmp_path: Path) -> None:
    """A link with the name of a rotated file, or of what it is compressed to, leads nowhere."""
    path = tmp_path / "events.ndjson"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / OLD).symlink_to(victim)
    (tmp_path / "events-20231115T120000Z-1.ndjson.zst.tmp").symlink_to(victim)
    (tmp_path / "events-20231115T120000Z-1.ndjson").write_bytes(batch(0).encoded("smith"))
    async with open_sink(file_config(path, keep=1)) as sink:
        await until_counted(sink, tend_errors=1)
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "events-20231115T120000Z-1.ndjson").exists()


def whole_and_torn(path: Path) -> tuple[list[int], int]:
    """The numbers of the whole lines, and how many lines a kill in mid-write has cut."""
    files = [*rotated(path), *([path] if path.exists() else [])]
    # Killed just after it had compressed or linked a file, it leaves the other name to the next start.
    files = [file for file in files if file.with_name(f"{file.name}.zst") not in files]
    if len(files) > 1 and files[-1].samefile(files[-2]):
        files.pop()
    numbers: list[int] = []
    torn = 0
    for line in b"".join(content(file) for file in files).splitlines():
        try:
            numbers.append(json.loads(line)["n"])
        except ValueError:
            torn += 1
    return numbers, torn


PROGRAM = """
    import sys, trio
    from pathlib import Path
    from sinks.file.sink import open_sink
    from tests.unit.sinks.doubles import batch, file_config

    async def main(path, first):
        async with open_sink(file_config(path, rotate_bytes=200_000, keep=0, fsync="interval")) as sink:
            for number in range(first, first + 1_000_000):
                await sink.deliver(batch(number, padding=10_000))
                print(number, flush=True)

    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.parametrize("kill_after", [1, 30, 333])
async def test_killed(tmp_path: Path, kill_after: int) -> None:
    """Killed at any moment and started again, it has every acknowledged line, in order, once and whole."""
    path = tmp_path / "events.ndjson"
    kills = 3
    numbers: list[int] = []
    for _ in range(kills):
        first = len(numbers)
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM), str(path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            for _ in range(kill_after):
                process.stdout.readline()
            process.kill()
            # What was printed after the kill was decided; its last line may be cut.
            printed = process.stdout.read().split("\n")[:-1]
        numbers, _ = whole_and_torn(path)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= first + kill_after + len(printed)
    async with open_sink(file_config(path, keep=0)) as sink:
        await until(lambda: [file for file in tmp_path.iterdir() if file.suffix != ".zst"] == [path])
        assert sink.statistics()["tend_errors"] == 0
    after, torn = whole_and_torn(path)
    assert after == numbers
    assert torn <= kills
