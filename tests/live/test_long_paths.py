# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths of 4,000 characters, and such as are longer than the collector keeps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.deep import components, deep_folder, place
from tests.live.views import CREATE_FILE, EXECVE, arguments_match, caused_by, raw, truncated

KEPT = 4096
UNITS = {
    "hostile": b'a"b\\\n\x17\x1e\x7f\xff\xe2\x80\xa8\xee\xbe\x80' * 12,
    "ordinary": b"component",
    "tiny": b"a",
    "longest": b"x" * 255,
}


def of(collector: Collector, pid: int, kind: int) -> list[Event]:
    """The events of that kind that the process caused."""
    return list(caused_by(collector.sync(), pid, kind))


@pytest.mark.parametrize("unit", UNITS)
def test_four_thousand_characters(unit: str, programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """A path of 4,000 bytes is whole in exe, cwd, stdin, stdout, filename, argv, and as a new file's path.

    Where four such paths of 2,000 folders each have used up what the kernel allows a program, the event says that its
    environment was not searched.
    """
    names = components(tmp_path, 3990, UNITS[unit])
    with deep_folder(tmp_path, names) as (here, folder):
        path = folder + b"/123456789"
        assert (len(path), len(folder)) == (4000, 3990)
        place(programs("nop"), here, b"123456789")
        with open(os.open(b"123456789", os.O_RDONLY, dir_fd=here), "rb") as file:
            cwd = f"/proc/self/fd/{here}"
            with subprocess.Popen([path, path], stdin=file, stdout=file, cwd=cwd) as process:
                assert process.wait() == 0
        [event] = of(collector, process.pid, EXECVE)
    for name in ("exe", "stdin", "stdout", "filename"):
        assert raw(event, name) == path, name
    assert raw(event, "run_path") == folder
    assert arguments_match(event, [path, path])
    assert (truncated(event) - ({"environment"} if unit == "tiny" else set()), len(event["exe_md5"])) == (set(), 32)
    created = of(collector, os.getpid(), CREATE_FILE)[-1]
    assert (raw(created, "file_path"), truncated(created)) == (path, set())


@pytest.mark.parametrize("unit", ["tiny", "longest"])
@pytest.mark.parametrize("length", [4095, 4096, 4097, 9000])
def test_longer_than_a_path_may_be(
    length: int, unit: str, programs: Programs, collector: Collector, tmp_path: Path
) -> None:
    """Of a longer path its end is told, and that it was cut; one that is whole is not called cut."""
    with deep_folder(tmp_path, components(tmp_path, length - 8, UNITS[unit])) as (here, folder):
        place(programs("nop"), here, b"program")
        cwd = f"/proc/self/fd/{here}"
        with subprocess.Popen([f"{cwd}/program", "x"], cwd=cwd, pass_fds=[here]) as process:
            assert process.wait() == 0
        [event] = of(collector, process.pid, EXECVE)
    created = of(collector, os.getpid(), CREATE_FILE)[-1]
    for told, name, path in (
        (event, "exe", folder + b"/program"),
        (event, "run_path", folder),
        (created, "file_path", folder + b"/program"),
    ):
        kept = raw(told, name) or b""
        assert (kept == path) is (name not in truncated(told)), (name, len(kept), truncated(told))
        assert path.endswith(kept)
        assert len(kept) > KEPT - 257
        if len(path) < KEPT:
            assert kept == path, name
