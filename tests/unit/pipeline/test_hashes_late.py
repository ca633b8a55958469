# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that keep the hashes waiting: who waits for them, and who goes ahead."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from pipeline.enrich import digests, jobs
from pipeline.enrich.digests import Budget
from pipeline.enrich.hashes import Hashes
from pipeline.enrich.held import Held, Order
from probes import opening
from probes.event import UNKNOWN
from probes.file.create_file import CreateFile
from probes.identity import CreatedId, FileId
from probes.process.exit import Exit
from tests.unit.pipeline.files import Stage, executable, found, md5, new_hashes, run_of
from tests.unit.pipeline.samples import made

FS_IOC_GETVERSION = 0x80087601

A, B = 11, 12
"""Two processes that are gone."""


class DeadMount:
    """Whatever opens a file of these names waits until `answers` is set."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.answers = threading.Event()
        self.asked = threading.Semaphore(0)
        self._readable = opening.readable

    def readable(self, place: int) -> tuple[int, os.stat_result]:
        if Path(os.readlink(f"/proc/self/fd/{place}")).name in self.names:
            self.asked.release()
            self.answers.wait(60)
        return self._readable(place)


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadMount]:
    mount = DeadMount()
    monkeypatch.setattr(digests, "readable", mount.readable)
    yield mount
    mount.answers.set()


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    return executable(tmp_path / "quick", b"quick")


@pytest.fixture
def slow(tmp_path: Path, dead: DeadMount) -> Path:
    dead.names.add("slow")
    return executable(tmp_path / "slow", b"slow")


def verified(path: Path) -> tuple[str, str]:
    return md5(path.read_bytes()), "verified"


async def until_settled(hashes: Hashes, **figures: int) -> None:
    """Return when the statistics say so."""
    with trio.fail_after(20):
        while not hashes.statistics().items() >= figures.items():
            await trio.lowlevel.checkpoint()


async def test_others_go_ahead(dead: DeadMount, slow: Path, quick: Path) -> None:
    """An event whose file is slow goes on later, alone; all others go on at once, and nothing is lost."""
    hashes = new_hashes(order_ms=0)
    async with Stage(new_hashes(order_ms=0)) as stage:
        await stage.pass_through(run_of(quick))
        waits, first, last = run_of(slow, tgid=A), run_of(quick, tgid=B), run_of(quick, tgid=B)
        await stage.put(first, waits, last)
        assert await stage.next() == [first, last]
        assert stage.hashes.statistics()["waiting_events"] == 1
        dead.answers.set()
        assert await stage.next() == [waits]
    assert found(waits, first) == [verified(slow), verified(quick)]
    assert hashes.statistics()["waiting_events"] == 0


async def test_a_process_keeps_its_order(dead: DeadMount, slow: Path, quick: Path) -> None:
    """What a process does after an event that waits is told after it, in this list and the next, known or not."""
    async with Stage(new_hashes(order_ms=0)) as stage:
        await stage.pass_through(run_of(quick, tgid=B))
        events = [run_of(path, tgid=A) for path in (slow, quick, slow, quick)]
        others = [run_of(quick, tgid=B), run_of(quick, tgid=B)]
        await stage.put(events[0], events[1], others[0])
        await stage.put(events[2], others[1], events[3])
        assert [*await stage.next(), *await stage.next()] == others
        dead.answers.set()
        late: list[object] = []
        while len(late) < 4:
            late += await stage.next()
    assert late == events
    assert found(*events) == [verified(slow), verified(quick)] * 2


async def test_a_quick_file_keeps_everybodys_order(tmp_path: Path) -> None:
    """Files that are hashed within the time in which all wait change nothing in the order."""
    events = [run_of(executable(tmp_path / str(number)), tgid=number) for number in range(50)]
    async with Stage(new_hashes()) as stage:
        assert await stage.pass_through(*events) == events
    assert {status for _, status in found(*events)} == {"verified"}


async def test_a_slow_file_times_out(dead: DeadMount, slow: Path, mock_clock: trio.testing.MockClock) -> None:
    """An event waits for its file no longer than the limit, and says so; if the file answers after all, it is known."""
    hashes = new_hashes(order_ms=0, wait_s=2.0)
    async with Stage(hashes) as stage:
        event, later = run_of(slow), run_of(slow)
        await stage.put(event)
        await trio.testing.wait_all_tasks_blocked()
        await trio.to_thread.run_sync(dead.asked.acquire)
        mock_clock.jump(2.0)
        assert await stage.next() == [event]
        assert found(event) == [(UNKNOWN, "timeout")]
        dead.answers.set()
        await until_settled(hashes, size=1)
        await stage.pass_through(later)
    assert found(later) == [verified(slow)]
    assert hashes.statistics()["timeout"] == 1


async def test_every_event_that_goes_without_is_counted(dead: DeadMount, slow: Path) -> None:
    """Of a file that is waited for in vain its events are counted, and none again when it answers late."""
    hashes = new_hashes(order_ms=0, wait_s=0.1)
    async with Stage(hashes) as stage:
        events = [run_of(slow, tgid=tgid) for tgid in (A, B, B)]
        await stage.pass_through(*events)
        assert found(*events) == [(UNKNOWN, "timeout")] * 3
        assert hashes.statistics()["timeout"] == 3
        dead.answers.set()
        await until_settled(hashes, size=1)
    assert hashes.statistics()["timeout"] == 3


async def test_a_new_file_holds_up_nothing_else_of_its_process(dead: DeadMount, slow: Path, quick: Path) -> None:
    """While a new file is looked for, what its creator does next is told."""
    async with Stage(new_hashes(order_ms=0)) as stage:
        await stage.pass_through(run_of(quick, tgid=A))
        creation = made(CreateFile, tgid=A, path=os.fsencode(slow), created=CreatedId(1, 1, 1, 1).pack())
        creation.exe_file, creation.exe = (later := run_of(quick, tgid=A)).exe_file, os.fsencode(quick)
        await stage.put(creation, later)
        assert await stage.next() == [later]
        dead.answers.set()
        assert await stage.next() == [creation]
    assert creation.create_file_hash_status == "changed"


@pytest.mark.parametrize("is_closed", [True, False])
async def test_a_file_that_is_shown_as_two(tmp_path: Path, is_closed: bool) -> None:
    """Events that name one open file by two identities both get its digest once it is closed, or neither does."""
    path = tmp_path / "new"
    with path.open("wb") as file:
        file.write(b"new")
        status = path.stat()
        device = FileId.of(status).device
        generation = int.from_bytes(fcntl.ioctl(file, FS_IOC_GETVERSION, bytes(8))[:4], "little")
        identities = [CreatedId(status.st_ino, status.st_ctime_ns + later, device, generation) for later in range(3)]
        events = [made(CreateFile, tgid=os.getpid(), path=os.fsencode(path), created=i.pack()) for i in identities]
        async with Stage(new_hashes(order_ms=0, close_wait_s=60.0 if is_closed else 0.0)) as stage:
            await stage.put(*events)
            if is_closed:
                await until_settled(stage.hashes, written_files=3)
                file.close()
            passed: list[object] = []
            while len(passed) < 3:
                passed += await stage.next()
    expected = verified(path) if is_closed else (UNKNOWN, "open")
    assert [(event.create_file_md5, event.create_file_hash_status) for event in events] == [expected] * 3


async def test_a_hung_worker_is_replaced(dead: DeadMount, slow: Path, quick: Path, tmp_path: Path) -> None:
    """A dead mount holds one thread and is left alone, others are hashed; when it answers, all is as before."""
    hashes = new_hashes(order_ms=0, wait_s=0.7, workers=1)
    async with Stage(hashes) as stage:
        stuck = run_of(slow)
        await stage.pass_through(stuck)
        await until_settled(hashes, workers_hung=1)
        event = run_of(executable(tmp_path / "another"))
        event.exe_file = event.exe_file[:32] + (7).to_bytes(8, "little")  # as if it were of another device
        await stage.pass_through(event)
        refused = run_of(quick)
        await stage.pass_through(refused)
        assert found(stuck, event, refused) == [
            (UNKNOWN, "timeout"),
            verified(tmp_path / "another"),
            (UNKNOWN, "timeout"),
        ]
        dead.answers.set()
        await until_settled(hashes, workers_hung=0, workers_busy=0, workers_replaced=1, size=2)
        event = run_of(executable(tmp_path / "one more"))
        await stage.pass_through(event)
        assert found(event)[0][1] == "verified"


async def test_no_more_workers_hang_than_the_bound(dead: DeadMount, tmp_path: Path) -> None:
    """Whatever number of mounts is dead, so many threads wait for them and no more."""
    hashes = new_hashes(order_ms=0, wait_s=0.3, workers=2, hung_workers=3)
    dead.names.update(map(str, range(8)))
    async with Stage(hashes) as stage:
        for device in range(8):
            event = run_of(executable(tmp_path / str(device)))
            event.exe_file = event.exe_file[:32] + device.to_bytes(8, "little")
            await stage.pass_through(event)
            assert found(event) == [(UNKNOWN, "timeout")]
        assert hashes.statistics().items() >= {"workers_hung": 3, "workers_busy": 5}.items()
        dead.answers.set()
        await until_settled(hashes, workers_hung=0, workers_busy=0)


async def test_no_more_events_wait_than_the_bound(dead: DeadMount, slow: Path) -> None:
    """If more events than the bound wait for a slow file, all of them go on without its digest."""
    hashes = new_hashes(order_ms=0, waiting_events=10)
    async with Stage(hashes) as stage:
        events = [run_of(slow, tgid=A) for _ in range(12)]
        for event in events:
            await stage.put(event)
        late: list[object] = []
        with trio.fail_after(20):
            while len(late) < 11:
                late += await stage.next()
        assert late[:11] == events[:11]
    assert {status for _, status in found(*events)} == {"timeout"}


async def test_what_is_given_up_at_once_keeps_its_place(dead: DeadMount, quick: Path, slow: Path) -> None:
    """Where the bound is met within a list, those of it that wait no more do not overtake their own process."""
    async with Stage(new_hashes(order_ms=0, waiting_events=1)) as stage:
        await stage.pass_through(run_of(quick, tgid=B))
        events = [run_of(path, tgid=A) for path in (quick, slow, slow, quick)]
        await stage.put(*events)
        told: list[object] = []
        with trio.fail_after(20):
            while len(told) < 4:
                told += await stage.next()
        assert told == events


async def test_the_end_does_not_wait_for_a_dead_mount(
    dead: DeadMount, slow: Path, mock_clock: trio.testing.MockClock
) -> None:
    """At the end what waits for a file that does not come goes on within a second, and nothing is lost."""
    event = run_of(slow)

    async def end(stage: Stage) -> None:
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.0)

    async with trio.open_nursery() as nursery, Stage(new_hashes(order_ms=0)) as stage:
        await stage.put(event)
        await trio.to_thread.run_sync(dead.asked.acquire)
        nursery.start_soon(end, stage)
    assert await stage.next() == [event]
    assert found(event) == [(UNKNOWN, "timeout")]


async def test_stuck_workers_gather_no_files(dead: DeadMount, tmp_path: Path) -> None:
    """Where every worker is stuck and none may be replaced, no more files wait than the bound; others are refused."""
    hashes = new_hashes(order_ms=0, wait_s=0.05, workers=1, hung_workers=0, waiting_files=5)
    dead.names.add("stuck")
    async with Stage(hashes) as stage:
        await stage.pass_through(run_of(executable(tmp_path / "stuck")))
        statuses = []
        for number in range(20):
            event = run_of(executable(tmp_path / str(number)))
            await stage.pass_through(event)
            statuses += [status for _, status in found(event)]
        assert statuses == ["timeout"] * 5 + ["rate_limited"] * 15
        dead.answers.set()


async def test_without_inotify(monkeypatch: pytest.MonkeyPatch, quick: Path) -> None:
    """Where the host has no more inotify instances, executables are hashed as ever."""

    def none_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(jobs, "Closings", none_left)
    event = run_of(quick)
    async with Stage(new_hashes()) as stage:
        await stage.pass_through(event)
    assert found(event) == [verified(quick)]


def test_who_waits_alone_holds_up_nobody() -> None:
    """Of a process that is behind, an event that waits alone does not keep those after it."""
    order = Order()
    first, alone, plain = (made(Exit, tgid=A) for _ in range(3))
    behind, by_itself = Held(first), Held(alone)
    behind.missing = by_itself.missing = 1
    behind.is_alone = False
    order.detach([first, alone, plain], {id(first): behind, id(alone): by_itself})
    order.let_go(behind)
    assert order.take_ready() == [first, plain]
    order.let_go(by_itself)
    assert order.take_ready() == [alone]


def test_new_files_leave_some_of_the_budget() -> None:
    """However many new files there are, executables are hashed all the same."""
    budget = Budget(1 << 30)
    while budget.take(1 << 20, spare=0.5):
        pass
    assert budget.take(1 << 20)
