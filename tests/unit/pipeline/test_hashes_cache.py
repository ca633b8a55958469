# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hashes remember, for how long, and within which bounds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio.testing

from probes.event import UNKNOWN
from probes.privilege.load_module import LoadModule
from tests.unit.pipeline.files import executable, found, identity, md5, new_hashes, run_of, told
from tests.unit.pipeline.samples import made

LATER_S = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return executable(tmp_path / "program")


def verified(path: Path) -> tuple[str, str]:
    return md5(path.read_bytes()), "verified"


async def test_a_known_file_is_not_read_again(path: Path) -> None:
    """Once a file is known, its events have the digest although the file is gone."""
    hashes = new_hashes()
    first, second = run_of(path), run_of(path)
    expected = verified(path)
    assert await told(hashes, first) == [expected]
    path.unlink()
    assert await told(hashes, second) == [expected]
    assert hashes.statistics().items() >= {"size": 1, "hits": 1, "misses": 1, "evictions": 0}.items()


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
    hashes = new_hashes(cache_entries=3, sha256=True)
    for number in range(10):
        path = executable(tmp_path / str(number), b"%d" % number)
        assert await told(hashes, run_of(path)) == [verified(path)]
        assert hashes.statistics()["size"] <= 3
    assert hashes.statistics()["evictions"] == 7


async def test_what_is_used_is_not_forgotten(tmp_path: Path) -> None:
    """However many files run once, those that run again and again meanwhile are read once."""
    hashes = new_hashes(cache_entries=8)
    hot = [executable(tmp_path / name, name.encode()) for name in ("sh", "cat", "ls")]
    expected, again = list(map(verified, hot)), [[run_of(path) for path in hot] for _ in range(100)]
    assert await told(hashes, *map(run_of, hot)) == expected
    for path in hot:
        path.unlink()
    for number, events in enumerate(again):
        cold = executable(tmp_path / str(number), b"%d" % number)
        assert await told(hashes, run_of(cold), *events) == [verified(cold), *expected]
    assert hashes.statistics()["misses"] == 3 + 100


async def test_a_module_that_is_used_is_not_forgotten(tmp_path: Path) -> None:
    """What is no executable, but loaded again and again, stays known as well."""
    hashes = new_hashes(cache_entries=2)
    module = executable(tmp_path / "module.ko")
    events = [made(LoadModule, file=identity(module), lkm_file=os.fsencode(module)) for _ in range(10)]
    for number, event in enumerate(events):
        await told(hashes, event)
        assert (event.load_file_md5, event.load_file_hash_status) == verified(module)
        await told(hashes, run_of(executable(tmp_path / str(number), b"%d" % number)))
    assert hashes.statistics()["misses"] == 1 + 10


async def test_failures_are_bounded(tmp_path: Path) -> None:
    """However many files cannot be hashed, of no more than the bound is that remembered."""
    hashes = new_hashes(cache_entries=3)
    for number in range(10):
        event = run_of(path := executable(tmp_path / str(number)))
        path.unlink()
        assert await told(hashes, event) == [(UNKNOWN, "gone")]
    assert hashes.statistics()["failures"] == 3
    assert hashes.statistics()["size"] == 0


async def test_one_batch_may_hold_more_files_than_the_cache(tmp_path: Path) -> None:
    """A bound below the number of files in one batch costs memory of digests, never a digest."""
    paths = [executable(tmp_path / str(number), b"%d" % number) for number in range(8)]
    hashes = new_hashes(cache_entries=1)
    assert await told(hashes, *map(run_of, paths)) == list(map(verified, paths))
    assert hashes.statistics()["size"] == 1


async def test_all_events_of_a_batch_have_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many events of a new file in one batch wait for one look at it."""
    hashes, real_read, reads = new_hashes(), os.read, []

    def read(fd: int, size: int) -> bytes:
        reads.append(os.readlink(f"/proc/self/fd/{fd}"))
        return real_read(fd, size)

    monkeypatch.setattr(os, "read", read)
    assert await told(hashes, *[run_of(path) for _ in range(50)]) == [verified(path)] * 50
    assert reads.count(str(path)) == 1


async def test_a_path_is_worth_more_than_none(path: Path) -> None:
    """Where one event of a file does not know its path and another does, both have the digest."""
    unknown, known = run_of(path), run_of(path)
    unknown.exe = b""
    assert await told(new_hashes(), unknown, known) == [verified(path)] * 2


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
    path: Path, hinder: Callable[[Path], None], mock_clock: trio.testing.MockClock
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
    mock_clock.jump(LATER_S)
    assert await told(hashes, run_of(other)) == [verified(other)]


async def test_what_fails_is_not_tried_for_every_event(path: Path, mock_clock: trio.testing.MockClock) -> None:
    """A file that cannot be reached costs no look a batch: its events are told the same at once."""
    hashes = new_hashes()
    event, again = run_of(path), run_of(path)
    expected = found(event)
    path.rename(path.with_name("away"))
    assert await told(hashes, event) == [(UNKNOWN, "gone")] != expected
    path.with_name("away").rename(path)
    assert await told(hashes, again) == [(UNKNOWN, "gone")]


async def test_no_more_files_wait_than_the_bound(tmp_path: Path) -> None:
    """Of more new files than may wait, the first are hashed and the others told as rate_limited."""
    hashes = new_hashes(waiting_files=5)
    events = [run_of(executable(tmp_path / str(number))) for number in range(9)]
    statuses = [status for _, status in await told(hashes, *events)]
    assert statuses == ["verified"] * 5 + ["rate_limited"] * 4
