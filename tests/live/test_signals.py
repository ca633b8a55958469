# SPDX-License-Identifier: GPL-2.0-or-later
"""What processes do to each other: signals and ptrace."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.calls import (
    KILL,
    PIDFD_SEND_SIGNAL,
    PTRACE,
    RT_SIGQUEUEINFO,
    RT_TGSIGQUEUEINFO,
    TGKILL,
    TKILL,
    call,
    fork,
)
from tests.live.collector import ROOT, Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import until
from tests.live.views import KILL_KIND, PTRACE_KIND, RENAME, TKILL_KIND, UNLINK, caused_by, raw

URG = int(signal.SIGURG)
"""A signal that does nothing unless it is asked for."""

TRACEME, PEEKDATA, POKETEXT, POKEDATA, CONT, ATTACH, DETACH = 0, 2, 4, 5, 7, 16, 17
GETREGS, SETREGS, SETREGSET, SEIZE, INTERRUPT = 12, 13, 0x4205, 0x4206, 0x4207
NOBODY = 65534

Told = Callable[[int], list[Event]]


@pytest.fixture
def told(collector: Collector) -> Told:
    """The events of a kind that this process has caused since the test began."""
    before = len(collector.sync())
    return lambda kind: caused_by(collector.sync()[before:], os.getpid(), kind)


@pytest.fixture
def child() -> Iterator[int]:
    """A process in a group of its own that waits, with the memory of this one."""
    started, go_on = os.pipe()

    def wait() -> None:
        os.setpgid(0, 0)
        os.write(go_on, b".")
        while True:
            signal.pause()

    pid = fork(wait)
    os.read(started, 1)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(started)
    os.close(go_on)


def targets(events: list[Event]) -> list[tuple[int, int, int, int]]:
    """System call, process, signal, result."""
    return [tuple(int(event[name]) for name in ("syscall", "target_pid", "sig", "res")) for event in events]  # type: ignore[misc]


def siginfo(code: int = -1) -> bytes:
    return b"\0" * 8 + code.to_bytes(4, "little", signed=True) + b"\0" * 116


@pytest.mark.guest("kill")
def test_every_way_to_signal_a_process(child: int, told: Told) -> None:
    """kill, rt_sigqueueinfo and pidfd_send_signal are told with process, signal and result; a group is negative."""
    pidfd = os.pidfd_open(child)
    os.kill(child, URG)
    os.kill(-child, URG)
    os.kill(0, URG)
    call(RT_SIGQUEUEINFO, child, URG, siginfo())
    signal.pidfd_send_signal(pidfd, URG)
    os.close(pidfd)
    call(PIDFD_SEND_SIGNAL, pidfd, URG, None, 0, fails=errno.EBADF)
    call(KILL, child, 99, fails=errno.EINVAL)
    events = told(KILL_KIND)
    assert targets(events) == [
        (KILL, child, URG, 0),
        (KILL, -child, URG, 0),
        (KILL, -os.getpgrp(), URG, 0),
        (RT_SIGQUEUEINFO, child, URG, 0),
        (PIDFD_SEND_SIGNAL, child, URG, 0),
        (PIDFD_SEND_SIGNAL, 0, URG, -errno.EBADF),
        (KILL, child, 99, -errno.EINVAL),
    ]
    asked = [child, -child, 0, child, 0, 0, child]
    assert [int(event["target_ns_pid"]) for event in events] == asked


def test_signals_of_a_user_without_rights(collector: Collector, child: int) -> None:
    """Who may not signal is told with EPERM; kill(-1) as -1."""

    def send() -> None:
        os.setuid(NOBODY)
        call(KILL, child, 15, fails=errno.EPERM)
        with contextlib.suppress(ProcessLookupError):  # nobody else has that user id
            os.kill(-1, URG)

    sender = fork(send)
    assert os.waitpid(sender, 0)[1] == 0
    events = caused_by(collector.sync(), sender, KILL_KIND)
    assert targets(events)[0] == (KILL, child, 15, -errno.EPERM)
    assert [int(event["target_pid"]) for event in events] == [child, -1]
    assert [event["uid"] for event in events] == [str(NOBODY)] * 2


@pytest.mark.guest("kill", "tkill", silent=True)
def test_what_sends_no_signal(child: int, told: Told) -> None:
    """Signal 0 only asks whether somebody is there: no event, by no call."""
    os.kill(child, 0)
    call(TKILL, child, 0)
    call(TGKILL, child, child, 0)
    pidfd = os.pidfd_open(child)
    call(PIDFD_SEND_SIGNAL, pidfd, 0, None, 0)
    os.close(pidfd)
    assert told(KILL_KIND) == told(TKILL_KIND) == []


@pytest.mark.guest("tkill")
def test_every_way_to_signal_a_thread(told: Told) -> None:
    """tkill, tgkill and rt_tgsigqueueinfo are told with the thread, which need not lead its process."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    number = thread.native_id or 0
    call(TKILL, number, URG)
    call(TGKILL, os.getpid(), number, URG)
    call(RT_TGSIGQUEUEINFO, os.getpid(), number, URG, siginfo())
    done.set()
    thread.join()
    until(lambda: not os.path.exists(f"/proc/self/task/{number}"), "the thread is gone from the kernel too")
    call(TKILL, number, URG, fails=errno.ESRCH)
    events = told(TKILL_KIND)
    assert targets(events) == [
        (TKILL, number, URG, 0),
        (TGKILL, number, URG, 0),
        (RT_TGSIGQUEUEINFO, number, URG, 0),
        (TKILL, number, URG, -errno.ESRCH),
    ]
    assert {event["tgid"] for event in events} == {str(os.getpid())}


def test_a_pidfd_beyond_nine_hundred(child: int, told: Told) -> None:
    """The process behind a high descriptor is told."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    pidfd = os.pidfd_open(child)
    os.dup2(pidfd, 1999)
    signal.pidfd_send_signal(1999, URG)
    os.close(1999)
    os.close(pidfd)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert targets(told(KILL_KIND)) == [(PIDFD_SEND_SIGNAL, child, URG, 0)]


SCRIPT = """
import os, signal, sys
from tests.live.calls import *
child = os.fork()
if not child:
    while True: signal.pause()
print(child, flush=True)
sys.stdin.readline()
os.kill(child, 23)
os.setpgid(child, child)
os.kill(-child, 23)
signal.pidfd_send_signal(os.pidfd_open(child), 23)
call(TKILL, child, 23)
call(TGKILL, child, child, 23)
call(PTRACE, 16, child, 0, 0)
call(KILL, 4000000, 23, fails=3)
os.kill(child, 9)
os.waitpid(child, 0)
"""


def test_a_pid_namespace(collector: Collector) -> None:
    """In a pid namespace the target is told as the host numbers it, and as the caller does; of nobody it is 0."""
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", SCRIPT]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        inside = int(process.stdout.readline())
        (sender,) = children_of(process.pid)
        (target,) = children_of(sender)
        assert f"NSpid:\t{target}\t{inside}\n" in Path(f"/proc/{target}/status").read_text()
        process.communicate(b"\n")
        assert process.returncode == 0
    assert inside != target
    events = collector.sync()
    kills, tkills, traced = (caused_by(events, sender, kind) for kind in (KILL_KIND, TKILL_KIND, PTRACE_KIND))
    both = [(int(event["target_pid"]), int(event["target_ns_pid"])) for event in (*kills, *tkills, *traced)]
    assert both == [
        (target, inside),
        (-target, -inside),
        (target, 0),
        (0, 4_000_000),
        (target, inside),
        (target, inside),
        (target, inside),
        (target, inside),
    ]


def children_of(pid: int) -> list[int]:
    """The child processes, as /proc tells them."""
    wanted = f"PPid:\t{pid}\n"
    return [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/status") if wanted in each.read_text()]


def test_thirty_two_bit_calls(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """System calls of the 32-bit kind are not told, as the documentation says; those around them are."""
    (tmp_path / "old").touch()
    with subprocess.Popen([programs("compat"), tmp_path / "old", tmp_path / "new"]) as process:
        assert process.wait() == 0
    assert not list(tmp_path.glob("*"))
    events = collector.sync()
    assert caused_by(events, process.pid)
    for kind in (RENAME, UNLINK, KILL_KIND):
        assert caused_by(events, process.pid, kind) == []


@pytest.mark.guest("ptrace")
def test_every_request_of_ptrace_that_is_told(child: int, told: Told) -> None:
    """Taking hold, writing memory and writing registers are told with target, address and word; the rest is not."""
    target = ctypes.create_string_buffer(16)
    at = ctypes.addressof(target)
    registers = ctypes.create_string_buffer(27 * 8)
    begin = ctypes.addressof(registers)
    vector = (ctypes.c_uint64 * 2)(begin, 27 * 8)
    call(PTRACE, ATTACH, child, 0, 0)
    os.waitpid(child, 0)
    call(PTRACE, POKEDATA, child, at, int.from_bytes(b"-a", "little"))
    call(PTRACE, POKETEXT, child, at, int.from_bytes(b"\xff\n\"'\0\x90\x90\xcc", "little", signed=True))
    call(PTRACE, PEEKDATA, child, at, begin)
    call(PTRACE, GETREGS, child, 0, begin)
    call(PTRACE, SETREGS, child, 0, begin)
    call(PTRACE, SETREGSET, child, 1, ctypes.addressof(vector))
    call(PTRACE, DETACH, child, 0, 0)
    call(PTRACE, SEIZE, child, 0, 0x10)
    call(PTRACE, INTERRUPT, child, 0, 0)
    os.waitpid(child, 0)
    call(PTRACE, DETACH, child, 0, 0)
    events = told(PTRACE_KIND)
    hexed = "{:016x}".format
    assert [(int(e["ptrace_request"]), e["addr"], e["word"], raw(e, "data")) for e in events] == [
        (ATTACH, hexed(0), hexed(0), None),
        (POKEDATA, hexed(at), "000000000000612d", b"-a"),
        (POKETEXT, hexed(at), "cc9090002722" + "0aff", b"\xff\n\"'"),
        (SETREGS, hexed(0), hexed(begin), None),
        (SETREGSET, hexed(1), hexed(ctypes.addressof(vector)), None),
        (SEIZE, hexed(0), hexed(0x10), None),
    ]
    for event in events:
        assert (event["target_pid"], event["target_ns_pid"], event["res"]) == (str(child), str(child), "0")


@pytest.mark.guest("ptrace", silent=True)
def test_ptrace_that_fails(child: int, told: Told, collector: Collector) -> None:
    """A refused attempt is told with its errno; a process that is traced by its own wish is not."""
    call(PTRACE, ATTACH, os.getpid(), 0, 0, fails=errno.EPERM)
    call(PTRACE, POKEDATA, child, 0, 0, fails=errno.ESRCH)
    call(PTRACE, PEEKDATA, child, 0, 0, fails=errno.ESRCH)
    willing = fork(lambda: call(PTRACE, TRACEME, 0, 0, 0))
    os.waitpid(willing, 0)
    assert caused_by(collector.sync(), willing, PTRACE_KIND) == []
    assert [(int(e["ptrace_request"]), int(e["target_pid"]), int(e["res"])) for e in told(PTRACE_KIND)] == [
        (ATTACH, os.getpid(), -errno.EPERM),
        (POKEDATA, child, -errno.ESRCH),
    ]
