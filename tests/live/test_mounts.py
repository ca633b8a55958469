# SPDX-License-Identifier: GPL-2.0-or-later
"""File systems that are mounted, moved and unmounted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.collector import ROOT, Collector, Event
from tests.live.forms import at_function
from tests.live.views import MOUNT_KIND, raw, truncated

HOSTILE = b"\xff\n\t\"\\'\x7f {\xc3\xa9"

BIND, DETACH, EMPTY_PATH = 4096, 2, 4


@pytest.fixture
def asked(attach: str | None) -> bool:
    """Whether mounts are told before they are done: without a result, and by paths that the kernel walked."""
    return at_function("mount", attach)


def mounted(collector: Collector, folder: Path, script: str) -> list[Event]:
    """The mount events of a script that runs in a mount namespace of its own, in `folder`."""
    head = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); os.chdir({str(folder)!r}); H = {HOSTILE!r}\n"
    text = f"{head}from tests.live.calls import *\n{script}"
    # Its first mount event makes the namespace private.
    with subprocess.Popen(["unshare", "--mount", sys.executable, "-c", text]) as process:
        assert process.wait() == 0
    events = [e for e in collector.sync() if e["data_type"] == str(MOUNT_KIND) and e["tgid"] == str(process.pid)]
    assert (events[0]["comm"], events[0]["file_path"]) == ("unshare", "/")
    return events[1:]


def told(event: Event) -> tuple[int, bytes | None, bytes | None, bytes | None, int, int]:
    """System call, device, type, path, flags, result."""
    texts = (raw(event, "dev"), raw(event, "fstype"), raw(event, "file_path"))
    return int(event["syscall"]), *texts, int(event["flags"]), int(event["res"])


@pytest.mark.guest("mount")
def test_mount_and_umount(collector: Collector, tmp_path: Path, asked: bool) -> None:
    """mount and umount2 are told with device, type, flags and the whole path of the place, wherever they begin."""
    script = """
here = os.getcwdb()
os.mkdir("a"), os.mkdir(H)
call(MOUNT, b"dev " + H, b"a", b"tmpfs", 14, b"size=64k")
os.mkdir("b"), os.chdir("b")
call(MOUNT, None, b"../a", None, 32 | 4096 | 2, None)
call(MOUNT, b"../a", b"../" + H, None, 4096, None)
os.chdir("../a")
call(UMOUNT2, b".", 2)
call(UMOUNT2, here + b"/a/../" + H, 0)
"""
    at = os.fsencode(tmp_path) + b"/"
    events = mounted(collector, tmp_path, script)
    assert [told(event) for event in events] == [
        (165, b"dev " + HOSTILE, b"tmpfs", at + b"a", 14, 0),
        (165, None, None, at + b"a", 32 | BIND | 2, 0),
        (165, b"../a", None, at + HOSTILE, BIND, 0),
        (166, None, None, at + b"a" if asked else b"/", DETACH, 0),
        (166, None, None, at + (b"" if asked else b"a/../") + HOSTILE, 0, 0),
    ]
    # Whoever unmounts the directory that it is in stands nowhere when the call returns.
    nowhere: set[str] = set() if asked else {"file_path"}
    assert [truncated(event) for event in events] == [set(), set(), set(), nowhere, set()]


@pytest.mark.guest("mount")
def test_mounts_of_the_new_kind(collector: Collector, tmp_path: Path, asked: bool) -> None:
    """What fsopen, fsconfig and fsmount made is told by move_mount, with the source and the type that it got."""
    script = """
os.mkdir("a"), os.mkdir("b")
fs = call(FSOPEN, b"tmpfs", 0)
call(FSCONFIG, fs, 1, b"source", b"made", 0)
call(FSCONFIG, fs, 6, None, None, 0)
new = call(FSMOUNT, fs, 0, 0)
here = os.open(".", os.O_RDONLY)
call(MOVE_MOUNT, new, b"", here, b"a", 4)
call(MOVE_MOUNT, AT_FDCWD, b"a", AT_FDCWD, b"b", 0)
"""
    at = os.fsencode(tmp_path) + b"/"
    assert [told(event) for event in mounted(collector, tmp_path, script)] == [
        (429, b"made", b"tmpfs", at + b"a", 0 if asked else EMPTY_PATH, 0),
        (429, b"made", b"tmpfs", at + b"b", 0, 0) if asked else (429, b"a", None, at + b"b", 0, 0),
    ]


@pytest.mark.guest("mount", silent=True)
def test_mounts_that_fail(collector: Collector, tmp_path: Path, asked: bool) -> None:
    """What was refused, or named what is not there, is told with its errno; an unreadable name as cut."""
    script = """
os.mkdir("a")
call(MOUNT, b"x", b"a", b"no such type", 0, None, fails=19)
call(MOUNT, b"x", b"none", b"tmpfs", 0, None, fails=2)
call(UMOUNT2, b"a", 0, fails=22)
call(MOUNT, b"x", 16, b"tmpfs", 0, None, fails=14)
os.setuid(65534)
call(MOUNT, b"x", b"a", b"tmpfs", 0, None, fails=1)
"""
    tmp_path.chmod(0o755)
    at = os.fsencode(tmp_path) + b"/"
    events = mounted(collector, tmp_path, script)
    if asked:  # what could not even be asked of the kernel's security is not told
        assert [told(event) for event in events] == [
            (165, b"x", b"no such type", at + b"a", 0, 0),
            (165, b"x", b"tmpfs", at + b"a", 0, 0),
        ]
        return
    assert [told(event) for event in events] == [
        (165, b"x", b"no such type", at + b"a", 0, -errno.ENODEV),
        (165, b"x", b"tmpfs", at + b"none", 0, -errno.ENOENT),
        (166, None, None, at + b"a", 0, -errno.EINVAL),
        (165, b"x", b"tmpfs", at.rstrip(b"/"), 0, -errno.EFAULT),
        (165, b"x", b"tmpfs", at + b"a", 0, -errno.EPERM),
    ]
    assert [truncated(event) for event in events] == [set(), set(), set(), {"file_path"}, set()]
    assert [event["uid"] for event in events] == ["0"] * 4 + ["65534"]
