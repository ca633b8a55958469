# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hashes remember, for how long, and what they wait for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from pipeline.enrich.hashes import Hashes
from probes.event import UNKNOWN
from probes.process.exit import Exit
from tests.unit.pipeline.files import executable, md5, new_hashes, run_of, told

SLOW_BYTES = 1 << 28
"""As much as takes a good part of a second to read and hash; a hole takes no room on the disk."""

WAIT_S = 2.0
LATER_S = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return executable(tmp_path / "program")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    path = executable(tmp_path / "slow")
    os.truncate(path, SLOW_BYTES)
    return path


def verified(path: Path) -> tuple[str, str]:
    return md5(path.read_bytes()), "verified"


async def idle(hashes: Hashes) -> None:
    """Return when no worker thread is busy."""
    while hashes.statistics()["workers_busy"]:
        await trio.lowlevel.checkpoint()


async def test_a_known_file_is_not_read_again(path: Path) -> None:
    """Once a file is known, its events have the digest although the file is gone."""
    hashes = new_hashes()
    first, second = run_of(path), run_of(path)
    expected = verified(path)
    assert await told(hashes, first) == [expected]
    path.unlink()
    assert await told(hashes, second) == [expected]
    assert hashes.statistics().items() >= {"entries": 1, "hits": 1, "misses": 1, "evictions": 0}.items()


async def test_a_new_content_is_a_new_file(path: Path) -> None:
    """What was rewritten has another digest from its next execution on."""
    hashes = new_hashes()
    before = await told(hashes, run_of(path))
    executable(path.with_name("next"), b"v2").rename(path)
    assert [*before, *await told(hashes, run_of(path))] == [
        (md5(b"#!/bin/true\n"), "verified"),
        (md5(b"v2"), "verified"),
    ]


async def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """However many files run, no more are remembered than the bound, and every one has its digest."""
    hashes = new_hashes(entries=3)
    for number in range(10):
        path = executable(tmp_path / str(number), b"%d" % number)
        assert await told(hashes, run_of(path)) == [verified(path)]
        assert hashes.statistics()["entries"] <= 3
    assert hashes.statistics()["evictions"] == 7


async def test_one_batch_may_hold_more_files_than_the_cache(tmp_path: Path) -> None:
    """A bound below the number of files in one batch costs memory of digests, never a digest."""
    paths = [executable(tmp_path / str(number), b"%d" % number) for number in range(8)]
    hashes = new_hashes(entries=1)
    assert await told(hashes, *map(run_of, paths)) == list(map(verified, paths))
    assert hashes.statistics()["entries"] == 1


async def test_all_events_of_a_batch_have_it(path: Path) -> None:
    """Many events of a new file in one batch wait for one look at it."""
    hashes = new_hashes()
    assert await told(hashes, *[run_of(path) for _ in range(50)]) == [verified(path)] * 50
    assert hashes.statistics()["entries"] == 1


async def told_after(
    clock: trio.testing.MockClock, seconds: float, hashes: Hashes, *events: Exit
) -> list[tuple[str, str]]:
    """As `told`, where the workers are busy until `seconds` have passed."""
    results: list[tuple[str, str]] = []

    async def wait() -> None:
        results.extend(await told(hashes, *events))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert not results
        clock.jump(seconds)
    return results


async def test_a_slow_file_times_out(path: Path, slow: Path, mock_clock: trio.testing.MockClock) -> None:
    """An event waits for its file no longer than the limit, and says so; known files do not suffer."""
    hashes = new_hashes(wait_s=WAIT_S)
    assert await told(hashes, run_of(path)) == [verified(path)]
    found = await told_after(mock_clock, WAIT_S, hashes, run_of(slow), run_of(path))
    assert found == [(UNKNOWN, "timeout"), verified(path)]
    assert hashes.statistics()["timeouts"] >= 1
    await idle(hashes)


async def test_a_blocked_worker_blocks_no_known_file(
    path: Path, slow: Path, mock_clock: trio.testing.MockClock
) -> None:
    """While every worker is held by a file, new files time out and known ones are told at once."""
    hashes = new_hashes(wait_s=WAIT_S, workers=1)
    assert await told(hashes, run_of(path)) == [verified(path)]
    await told_after(mock_clock, WAIT_S, hashes, run_of(slow))
    assert hashes.statistics()["workers_busy"] == 1
    assert await told(hashes, run_of(path)) == [verified(path)]
    other = executable(path.with_name("other"))
    assert await told_after(mock_clock, WAIT_S, hashes, run_of(other)) == [(UNKNOWN, "timeout")]
    assert hashes.statistics()["workers_busy"] == 1
    await idle(hashes)
    mock_clock.jump(LATER_S)
    assert await told(hashes, run_of(other)) == [verified(other)]


def unlink(path: Path) -> None:
    path.unlink()


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace(path: Path) -> None:
    executable(path.with_name("new"), b"other").rename(path)


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


@pytest.mark.parametrize("hinder", [unlink, make_fifo, replace, link], ids=lambda hinder: hinder.__name__)
async def test_a_failure_is_not_for_ever(
    path: Path, hinder: Callable[[Path], None], autojump_clock: trio.testing.MockClock
) -> None:
    """What hid a file once, at one path, does not hide it when it runs again where it can be reached."""
    hashes = new_hashes()
    other = path.with_name("other")
    os.link(path, other)
    first = run_of(path)
    hinder(path)
    first.exe_file = run_of(other).exe_file
    ((digest, status),) = await told(hashes, first)
    assert (digest, status != "verified") == (UNKNOWN, True)
    await trio.sleep(LATER_S)
    assert await told(hashes, run_of(other)) == [verified(other)]


async def test_what_fails_is_not_tried_for_every_event(path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """A file that cannot be reached costs no look a batch: its events are told the same at once."""
    hashes = new_hashes()
    event, again = run_of(path), run_of(path)
    path.unlink()
    assert await told(hashes, event) == await told(hashes, again) == [(UNKNOWN, "gone")]
