# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel leaves out: counted as filtered, neither delivered nor lost."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.test_connections import NOWHERE
from tests.live.tools import run, until
from tests.live.views import CONNECT, caused_by

NEVER_S = 86_400.0
STRANGER = 54_321
"""A user id that nobody else on this machine has."""


@pytest.fixture
def quiet(programs: Programs, tmp_path: Path) -> Path:
    """A program that the configuration excludes."""
    path = tmp_path / "quiet"
    shutil.copy(programs("churn"), path)
    return path


def excluding(path: Path, refresh_s: float = NEVER_S) -> dict[str, dict[str, object]]:
    return {"filters": {"exe": [str(path), str(path.parent / "absent")], "refresh_s": refresh_s}}


def by_process(events: list[Event], pid: int) -> list[str]:
    """The kinds of the events that the process caused."""
    return [event["data_type"] for event in caused_by(events, pid)]


def churn(program: Path, folder: Path, count: int = 100) -> int:
    """Have the program create files; gives its process id."""
    with subprocess.Popen([program, str(count), "0", folder / "churned"]) as process:
        assert process.wait() == 0
    return process.pid


def test_an_executable(quiet: Path, programs: Programs, tmp_path: Path) -> None:
    """Of an excluded executable nothing is told but its fork by others; a copy of it elsewhere is told."""
    with Collector(tmp_path, excluding(quiet)) as collector:
        unseen, seen = churn(quiet, tmp_path), churn(programs("churn"), tmp_path)
        events = collector.sync()
        outcome = collector.stop()
    assert by_process(events, unseen) == []
    assert by_process(events, seen) == ["59", *["602"] * 100, "60"]
    assert [event["child_tgid"] for event in events if event["data_type"] == "801"].count(str(unseen)) == 1
    for name, count in (("execve", 1), ("create_file", 100), ("exit", 1)):
        assert outcome.kind(name)["filtered"] >= count, name
    outcome.check()


def test_a_replaced_executable(quiet: Path, programs: Programs, tmp_path: Path) -> None:
    """What is put in an excluded file's place, or written into it, is told until the path is looked up again."""
    with Collector(tmp_path, excluding(quiet)) as collector:
        fresh = tmp_path / "fresh"
        shutil.copy(programs("churn"), fresh)
        fresh.replace(quiet)
        replaced = churn(quiet, tmp_path, 1)
        assert by_process(collector.sync(), replaced) == ["59", "602", "60"]
        collector.reload(excluding(quiet))
        again = churn(quiet, tmp_path, 1)
        assert by_process(collector.sync(), again) == []
        with quiet.open("ab") as file:
            file.write(b"x")
        rewritten = churn(quiet, tmp_path, 1)
        assert by_process(collector.sync(), rewritten) == ["59", "602", "60"]
        collector.stop().check()


def test_the_path_is_looked_up_again(quiet: Path, programs: Programs, tmp_path: Path) -> None:
    """After refresh_s a file that was put in an excluded one's place is left out as well."""
    with Collector(tmp_path, excluding(quiet, refresh_s=0.1)) as collector:
        fresh = tmp_path / "fresh"
        shutil.copy(programs("churn"), fresh)
        fresh.replace(quiet)

        def left_out() -> bool:
            pid = churn(quiet, tmp_path, 1)
            return not by_process(collector.sync(), pid)

        until(left_out, "the replaced file is left out")
        collector.stop().check()


def test_a_user(tmp_path: Path) -> None:
    """Of an excluded user nothing is told; it is the real user id that counts."""
    true = shutil.which("true")
    assert true
    with Collector(tmp_path, {"filters": {"uid": [STRANGER]}}) as collector:
        run(true, "unseen", user=STRANGER, group=STRANGER)
        run(true, "seen", user=STRANGER + 1, group=STRANGER)
        events = collector.sync()
        outcome = collector.stop()
    told = [event["argv"].split()[1] for event in events if event["data_type"] == "59" and event["exe"] == true]
    assert "seen" in told
    assert "unseen" not in told
    assert str(STRANGER) not in {event.get("uid") for event in events}
    [seen] = [event for event in events if event.get("argv") == f"{true} seen "]
    assert (seen["uid"], seen["user"]) == (str(STRANGER + 1), "-1")
    assert outcome.kind("execve")["filtered"] >= 1
    assert outcome.kind("exit")["filtered"] >= 1
    outcome.check()


def test_loopback(tmp_path: Path) -> None:
    """With loopback = true connections to 127.0.0.0/8, ::1 and mapped v4 are left out, refused ones too; others not."""
    tables = {"filters": {"loopback": True}, "collector": {"unix_sockets": True}}
    inside = [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_STREAM, "127.255.255.254"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.1.2.3"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1"),
    ]
    outside = [(socket.AF_INET, NOWHERE), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET6, f"::ffff:{NOWHERE}")]
    with Collector(tmp_path, tables) as collector:
        before = len(collector.sync())
        for family, kind, host in inside:
            with socket.socket(family, kind) as client:
                client.connect_ex((host, 1))
        for family, host in outside:
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.connect_ex((host, 1))
        with socket.socket(socket.AF_UNIX) as client:
            assert client.connect_ex(str(tmp_path / "x")[-90:]) == errno.ENOENT
        events = collector.sync()[before:]
        outcome = collector.stop()
    mine = caused_by(events, os.getpid(), CONNECT)
    told = [event["dip"] for event in mine]
    assert told == [*(host for _, host in outside), "-1"]
    assert outcome.kind("connect")["filtered"] >= len(inside)
    outcome.check()


def test_the_collector_itself(tmp_path: Path) -> None:
    """What the collector does is counted as filtered and never told, unless own_process is false."""
    for own, folder in ((True, tmp_path / "left out"), (False, tmp_path / "told")):
        folder.mkdir()
        tables = {"filters": {"own_process": own}}
        with Collector(folder, tables) as collector:
            until(collector.output.exists, "the output file")
            collector.output.rename(folder / "before")
            collector.reload(tables)  # makes the file anew, with every probe there
            events = collector.sync()
            with collector.output.open("ab") as output:
                output.write((folder / "before").read_bytes())  # for the account at the end
            outcome = collector.stop()
        mine = caused_by(events, collector.pid)
        if own:
            assert mine == []
            assert outcome.kind("create_file")["filtered"] >= 1
        else:
            assert str(collector.output) in [event.get("file_path") for event in mine]
        outcome.check()


def test_long_lists(quiet: Path, programs: Programs, tmp_path: Path) -> None:
    """Lists of 1,024 users and executables hold, the last of them too."""
    tables = excluding(quiet)
    tables["filters"] |= {
        "exe": [*(f"/absent/{number}" for number in range(1_023)), str(quiet)],
        "uid": [*range(60_000, 61_023), STRANGER],
    }
    with Collector(tmp_path, tables) as collector:
        unseen = churn(quiet, tmp_path)
        run("true", user=STRANGER, group=STRANGER)
        events = collector.sync()
        outcome = collector.stop()
    assert by_process(events, unseen) == []
    assert str(STRANGER) not in {event.get("uid") for event in events}
    assert outcome.kind("create_file")["filtered"] >= 100
    outcome.check()
