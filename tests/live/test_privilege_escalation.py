# SPDX-License-Identifier: GPL-2.0-or-later
"""Root from nowhere: what an exploit does to a thread in kernel memory is done to the probe's memory of it."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.live import kernel_maps
from tests.live.becoming import AS_USER, USER, become, installed
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.kernel_module import inserted
from tests.live.tools import LIMIT_S

ESCALATION = 611
THREADS = "privilege_escalation_threads"
NOBODYS = struct.pack("<8I", *[USER] * 8) + struct.pack("<2I", 0, 0)
"""A user without any right to become root."""

CAP_SETUID = 7


@pytest.fixture
def plain(programs: Programs, place: Path) -> Path:
    return installed(programs("become"), place / "plain", 0o755)


@pytest.fixture
def helper(programs: Programs, place: Path) -> Path:
    return installed(programs("become"), place / "helper", 0o4755)


def told(collector: Collector, pid: int) -> list[Event]:
    events = collector.sync()
    return [each for each in events if (each["data_type"], each["tgid"]) == (str(ESCALATION), str(pid))]


@pytest.mark.guest("privilege_escalation", every=True)
@pytest.mark.parametrize(
    ("step", "seen_at", "exe"),
    [
        (("fork",), "fork", "helper"),
        (("exec", "plain", "c", "fork"), "execve", "plain"),
        (("setresuid:0,0,0",), "set_ids", "helper"),
    ],
    ids=["fork", "execve", "set_ids"],
)
def test_root_from_nowhere(
    step: tuple[str, ...], seen_at: str, exe: str, plain: Path, helper: Path, collector: Collector
) -> None:
    """A thread that is root and could not become it is told once, at what it does next, with whose child it is."""
    steps = [str(plain) if word == "plain" else word for word in step]
    command: list[str | Path] = [*AS_USER, plain, "\n", "fork", "exec", helper, "x", "setuid:0", "wait", *steps]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while not (line := process.stdout.readline()).endswith("waits\n"):
            assert line
        pid = int(line.split()[0])
        assert told(collector, pid) == []
        assert kernel_maps.put(THREADS, struct.pack("<I", pid), NOBODYS)
        process.communicate("\n", timeout=LIMIT_S)
        assert process.returncode == 0
    [event] = told(collector, pid)
    group = "|".join([str(USER)] * 4)
    assert (event["c_cred"], event["old_cred"]) == (f"0|0|0|0|{group}", f"{group}|{group}")
    assert (event["p_pid"], event["p_cred"]) == (str(process.pid), f"{group}|{group}")
    assert event["exe"] == str({"plain": plain, "helper": helper}[exe])
    assert (event["seen_at_name"], event["ppid"]) == (seen_at, str(process.pid))


@pytest.mark.guest("privilege_escalation", every=True)
@pytest.mark.needs("test_module")
@pytest.mark.parametrize("how", ["commit", "overwrite"])
def test_root_by_a_module(how: str, plain: Path, collector: Collector) -> None:
    """Root by the kernel's own commit_creds(), or written over a thread's credentials, is told at the next fork."""
    with inserted():
        pid, ids = become(*AS_USER, plain, "x", how, "fork")
    assert ids == [[0, 0], [0, 0]]
    events = [each for each in collector.sync() if each["data_type"] == str(ESCALATION) and each["exe"] == str(plain)]
    [event] = [each for each in events if str(pid) in {each["ppid"], each["tgid"]}]
    assert event["c_cred"].startswith("0|0|0|0|")
    assert event["old_cred"].startswith(f"{USER}|")
    assert event["seen_at_name"] == "fork"


def with_capability(program: Path, capability: int) -> Path:
    """Give the file a permitted and effective capability (struct vfs_cap_data, revision 2)."""
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x0200_0001, 1 << capability, 0, 0, 0))
    return program


@pytest.mark.guest("privilege_escalation", silent=True)
def test_what_is_legal(plain: Path, helper: Path, collector: Collector) -> None:
    """Set-user-ID and set-group-ID programs, file capabilities, root's own ways and user namespaces are not told."""
    groups = installed(plain, plain.parent / "groups", 0o2755)
    able = with_capability(installed(plain, plain.parent / "able", 0o755), CAP_SETUID)
    root = (0, 0)
    legal = (
        ((*AS_USER, helper, "a", "setuid:0", "fork", "exec", plain, "b", "fork"), root),
        ((*AS_USER, helper, "a", f"setresuid:{USER},{USER},0", "fork", "setresuid:0,0,0", "exec", plain, "b"), root),
        ((*AS_USER, plain, "a", "exec", helper, "sudo", "fork", "exec", plain, "b", "fork"), (USER, 0)),
        ((*AS_USER, groups, "a", "setresgid:0,0,0", "fork", "exec", plain, "b", "fork"), (USER, USER)),
        ((*AS_USER, able, "a", "setresuid:0,0,0", "fork", "exec", plain, "b", "fork"), root),
        ((plain, "a", f"setresuid:-1,{USER},-1", "fork", "setresuid:-1,0,-1", "fork"), root),
        ((plain, "a", f"setresuid:{USER},{USER},{USER}", "fork", "exec", plain, "b", "fork"), (USER, USER)),
        ((*AS_USER, "unshare", "--user", "--map-root-user", plain, "a", "setuid:0", "fork", "fork"), root),
    )
    before = len(collector.sync())
    for command, last in legal:
        _pid, ids = become(*command)
        assert ids[-1] == list(last)
    assert [event for event in collector.sync()[before:] if event["data_type"] == str(ESCALATION)] == []
