# SPDX-License-Identifier: GPL-2.0-or-later
"""What the console says of an event."""

from __future__ import annotations

import errno

import pytest

from probes.event import ProcessEvent
from probes.file.mount import Mount
from probes.network.connect import Connect
from probes.process.execve import Execve
from probes.registry import all_events
from probes.text import error_text
from tests.unit.docs.test_events import full
from tests.unit.pipeline.samples import made

NO_EXECUTABLE = {"port_scan", "usb", "usermodehelper", "shell_line"}
"""Kinds that do not tell the process, or tell it otherwise."""

KINDS = [kind for kind in all_events() if kind.event_name not in NO_EXECUTABLE]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.event_name)
def test_an_unknown_executable(kind: type[ProcessEvent]) -> None:
    """Where the executable is unknown the line has the thread's name instead, and no hole."""
    line = full(kind, exe=b"", comm=b"sh\0", result=0 if kind is Execve else 2).summary()
    assert " [sh]" in line
    assert "  " not in line


def test_an_unmount_has_no_holes() -> None:
    """An unmount names neither a type nor a device, and leaves no room for them."""
    event = made(Mount, user="root", pid=7, exe=b"/bin/umount", call=166, file_path=b"/mnt", pid_tree="1(a)")
    assert event.summary() == "root 7 /bin/umount umount /mnt done 1(a)"


def test_errors_have_names() -> None:
    """A line names errors as errno.h does."""
    connecting = made(Connect, user="root", exe=b"/bin/nc", family=2, protocol=6, result=-errno.EINPROGRESS)
    assert " tcp result EINPROGRESS " in connecting.summary()
    failed = made(Execve, user="root", filename=b"/x", result=-errno.ENOENT)
    assert failed.summary() == "root 0 failed: /x ENOENT []"


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (5, "5"), (-2, "ENOENT"), (-512, "-512")])
def test_error_text(number: int, text: str) -> None:
    """Only negative numbers that are errors have names."""
    assert error_text(number) == text
