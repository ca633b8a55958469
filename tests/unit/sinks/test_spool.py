# SPDX-License-Identifier: GPL-2.0-or-later
"""The spool: bounded, private, and whole after whatever happened to the file."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sinks.protocol import SinkError
from sinks.spool import SpoolConfig, SpoolFull
from sinks.spool.store import Spool

MIB = 1 << 20


class Bench:
    """A spool in a folder, with a clock and a list of what was lost."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state" / "spool.db"
        self.clock = 1000.0
        self.lost: list[tuple[str, int]] = []

    @contextmanager
    def open(self, **config: object) -> Iterator[Spool]:
        spool = Spool(
            SpoolConfig(path=str(self.path), **config),  # type: ignore[arg-type]
            lost=lambda sink, counts: self.lost.append((sink, sum(counts.values()))),
            now=lambda: self.clock,
        )
        spool.open()
        with closing(spool):
            yield spool


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def put(spool: Spool, sink: str, events: int, lines: bytes = b"{}\n", *, held: bool = False) -> int:
    number = spool.number()
    spool.put(sink, number, {59: events}, lines, held=held)
    return number


def taken(spool: Spool, sink: str) -> list[int]:
    """The events of each batch that is taken and acknowledged, until there is none."""
    found = []
    while some := spool.take(sink, 2):
        found += [sum(stored.counts.values()) for stored in some]
        spool.done(sink, *(stored.number for stored in some))
    return found


def test_batches_come_back_in_order_after_a_restart(bench: Bench) -> None:
    """What one run stored the next one takes, in order of number, each sink its own; numbers go on."""
    with bench.open() as spool:
        late = spool.number()
        put(spool, "a", 2)
        put(spool, "b", 30)
        put(spool, "a", 3)
        spool.put("a", late, {59: 1, 60: 4}, b"one\ntwo\n")
    with bench.open() as spool:
        assert spool.waiting("a") == Counter({59: 6, 60: 4})
        assert spool.sinks() == {"a": 3, "b": 1}
        [first] = spool.take("a", 1)
        assert first == (late, {59: 1, 60: 4}, b"one\ntwo\n", bench.clock)
        spool.done("a", late)
        assert taken(spool, "a") == [2, 3]
        assert spool.number() > late + 3
        assert taken(spool, "b") == [30]
        assert spool.statistics()["bytes"] == spool.statistics()["batches"] == 0


def test_what_is_taken_stays_until_it_is_done(bench: Bench) -> None:
    """A batch that was taken and not acknowledged is not taken twice, and is there after a restart."""
    with bench.open() as spool:
        put(spool, "a", 1)
        assert len(spool.take("a", 2)) == 1
        assert spool.take("a", 2) == []
    with bench.open() as spool:
        assert taken(spool, "a") == [1]


def test_only_its_owner_reads_it(bench: Bench) -> None:
    """File and folder are private whatever the umask."""
    before = os.umask(0)
    try:
        with bench.open() as spool:
            put(spool, "a", 1)
            for path in bench.path.parent.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    finally:
        os.umask(before)
    assert stat.S_IMODE(bench.path.parent.stat().st_mode) == 0o700


def noise(size: int) -> bytes:
    return os.urandom(size)


def test_the_oldest_give_way(bench: Bench) -> None:
    """At the bound the oldest batches of any sink are given up and told, but none that somebody holds."""
    with bench.open(max_bytes=MIB) as spool:
        put(spool, "held", 1, noise(MIB // 4), held=True)
        for events in (2, 3, 4):
            put(spool, "a", events, noise(MIB // 4))
        assert bench.lost == [("a", 2)]
        put(spool, "b", 5, noise(MIB // 2))
        assert bench.lost == [("a", 2), ("a", 3), ("a", 4)]
        assert spool.sinks() == {"held": 1, "b": 1}
        assert spool.statistics()["bytes"] <= MIB


@pytest.mark.parametrize("policy", ["drop_newest", "block"])
def test_the_newest_is_refused(bench: Bench, policy: str) -> None:
    """With the other policies the new batch is refused, and what was there stays."""
    with bench.open(max_bytes=MIB, when_full=policy) as spool:
        put(spool, "a", 1, noise(MIB // 2))
        with pytest.raises(SpoolFull, match="max_bytes"):
            put(spool, "a", 2, noise(MIB // 2))
        assert (bench.lost, taken(spool, "a")) == ([], [1])


def test_one_that_never_fits_is_refused(bench: Bench) -> None:
    """A batch larger than the whole spool costs no other batch."""
    with bench.open(max_bytes=MIB) as spool:
        put(spool, "a", 1)
        with pytest.raises(SpoolFull):
            put(spool, "a", 2, noise(2 * MIB))
        assert (bench.lost, taken(spool, "a")) == ([], [1])


def test_old_batches_are_given_up(bench: Bench) -> None:
    """What is older than the bound is told as lost and never delivered."""
    with bench.open(max_age_s=60) as spool:
        put(spool, "a", 1)
        bench.clock += 50
        put(spool, "a", 2)
        bench.clock += 20
        assert taken(spool, "a") == [2]
    assert bench.lost == [("a", 1)]


def overwrite(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def overwrite_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(noise(os.path.getsize(path) - 4096))


def cut(path: Path) -> None:
    os.truncate(path, os.path.getsize(path) // 2)


def another_form(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
        database.commit()


@pytest.mark.parametrize("damage", [overwrite, overwrite_the_middle, cut, another_form])
def test_a_damaged_file_is_set_aside(bench: Bench, damage: Callable[[Path], None]) -> None:
    """A file that is no sound spool is moved away whole, and a new one works, also at the start after."""
    with bench.open() as spool:
        for events in range(1, 40):
            put(spool, "a", events, noise(2000))
    damage(bench.path)
    content = bench.path.read_bytes()
    with bench.open() as spool:
        assert spool.set_aside is not None
        assert spool.set_aside.read_bytes() == content
        put(spool, "a", 7)
    with bench.open() as spool:
        assert spool.set_aside is None
        assert taken(spool, "a") == [7]


def test_a_damaged_batch_is_told(bench: Bench) -> None:
    """Lines that do not decompress are told as lost; the batches around them are delivered."""
    with bench.open() as spool:
        for events in (1, 2, 3):
            put(spool, "a", events)
    with closing(sqlite3.connect(bench.path)) as database:
        database.execute("UPDATE batch SET lines = x'28b52ffd00' WHERE counts LIKE '%:2}'")
        database.commit()
    with bench.open() as spool:
        assert taken(spool, "a") == [1, 3]
        assert spool.statistics()["bytes"] == 0
    assert bench.lost == [("a", 2)]


def test_two_collectors_share_none(bench: Bench) -> None:
    """A second collector with the same file is refused with a remedy."""
    with bench.open(), pytest.raises(SinkError, match="in use by another collector: name another file"), bench.open():
        pass


def test_a_place_that_is_no_file(bench: Bench, tmp_path: Path) -> None:
    """A folder at the path, and a folder that cannot be made, are one sentence each."""
    bench.path.mkdir(parents=True)
    with pytest.raises(SinkError, match="cannot be opened: Is a directory"), bench.open():
        pass
    (tmp_path / "file").touch()
    bench.path = tmp_path / "file" / "spool.db"
    with pytest.raises(SinkError, match="cannot be opened"), bench.open():
        pass


def test_what_cannot_be_deleted_is_told(bench: Bench) -> None:
    """A batch that the disk does not let go of is not delivered again by this run, and counted until it is gone."""
    with bench.open() as spool:
        number = put(spool, "kafka", 3, held=True)
        spool._database.execute("PRAGMA query_only = ON")
        spool.done("kafka", number)
        assert spool.statistics().items() >= {"batches": 0, "undeleted": 1, "delete_errors": 1}.items()
        spool._database.execute("PRAGMA query_only = OFF")
        assert taken(spool, "kafka") == []
        put(spool, "kafka", 1)
        assert taken(spool, "kafka") == [1]
        assert spool.statistics().items() >= {"undeleted": 0, "delete_errors": 1}.items()


@pytest.mark.parametrize("path", [":memory:", "file:spool?mode=memory", "spool.db", "/tmp/a\0b"])
def test_paths_that_are_refused(path: str) -> None:
    """No path that SQLite takes as something else, or the system not at all."""
    with pytest.raises(ValueError, match="path must"):
        SpoolConfig(path=path)
