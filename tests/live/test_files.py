# SPDX-License-Identifier: GPL-2.0-or-later
"""New files: thousands by every system call, and what is no new file."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.views import CREATE_FILE, caused_by

COUNT = 20_000


def created(collector: Collector, pid: int | None = None) -> list[Event]:
    """The files that a process created, by default this one."""
    return caused_by(collector.sync(), pid or os.getpid(), CREATE_FILE)


def test_twenty_thousand_files(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """Of 20,000 files that open, openat, openat2 and creat create, each is told once; opened again, none is."""
    with subprocess.Popen([programs("create"), str(COUNT), tmp_path]) as process:
        assert process.wait() == 0
    told = created(collector, process.pid)
    paths = Counter(event["file_path"] for event in told)
    assert paths == Counter(str(tmp_path / f"f{number}") for number in range(COUNT))


@pytest.mark.guest("create_file", silent=True)
def test_what_creates_no_file(collector: Collector, tmp_path: Path) -> None:
    """Appending, truncating, opening with O_CREAT what is there, a failed O_EXCL, a folder, a link: no event."""
    path = tmp_path / "there"
    path.write_text("x")
    (tmp_path / "to there").symlink_to(path)
    before = len(created(collector))
    for name in (path, tmp_path / "to there"):
        for flags in (os.O_APPEND, os.O_TRUNC, 0):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | flags))
    with path.open("a") as file:
        file.write("more")
    with pytest.raises(FileExistsError):
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with pytest.raises(FileNotFoundError):
        os.open(tmp_path / "no folder" / "file", os.O_WRONLY | os.O_CREAT)
    (tmp_path / "folder").mkdir()
    os.link(path, tmp_path / "link")
    path.rename(tmp_path / "elsewhere")
    assert created(collector)[before:] == []


@pytest.mark.guest("create_file")
def test_how_a_file_is_named(collector: Collector, tmp_path: Path) -> None:
    """A file is told by its whole real path, however the caller named it, with its process."""
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "dangling").symlink_to(real / "by dangling link")
    folder = os.open(real, os.O_RDONLY)
    try:
        names: list[tuple[Path | str, int | None]] = [
            (tmp_path / "link" / "by link", None),
            (f"{real}/.././real/./by dots", None),
            ("by folder", folder),
            (tmp_path / "dangling", None),
        ]
        before = len(created(collector))
        for name, start in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=start))
    finally:
        os.close(folder)
    told = created(collector)[before:]
    wanted = ["by link", "by dots", "by folder", "by dangling link"]
    assert [event["file_path"] for event in told] == [str(real / name) for name in wanted]
    for event in told:
        assert (event["user"], event["uid"]) == ("root", "0")
        assert event["exe"] == os.readlink("/proc/self/exe")


def test_a_file_that_is_gone_at_once(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """A file that is removed right after is told each time it is created, by its path."""
    path = tmp_path / "short-lived"
    with subprocess.Popen([programs("churn"), "1000", "0", path]) as process:
        assert process.wait() == 0
    told = created(collector, process.pid)
    assert Counter(event["file_path"] for event in told) == {str(path): 1000}
