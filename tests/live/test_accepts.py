# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections that a program accepts, and failures to."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.test_connections import HOSTS, family, listener
from tests.live.tools import LIMIT_S, Tables
from tests.live.views import ACCEPT, caused_by

__all__ = ["family", "listener"]


def accepted(collector: Collector, pid: int | None = None) -> list[Event]:
    """What a process accepted, by default this one."""
    return caused_by(collector.sync(), pid or os.getpid(), ACCEPT)


def ends(event: Event) -> tuple[str, str, str, str]:
    return event["sip"], event["sport"], event["dip"], event["dport"]


def both(server: socket.socket) -> tuple[str, str, str, str]:
    """Local and remote end as the socket's own calls say."""
    (sip, sport, *_), (dip, dport, *_) = server.getsockname(), server.getpeername()
    return sip, str(sport), dip, str(dport)


@pytest.mark.guest("accept", every=True)
def test_accept4(family: int, listener: socket.socket, collector: Collector) -> None:
    """An accepted connection tells both ends, ports in host order, the new descriptor and the listener's."""
    with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as server:
        expected = both(server)
        fds = (str(server.fileno()), str(listener.fileno()))
    event = accepted(collector)[-1]
    assert ends(event) == expected
    assert (event["fd"], event["listener_fd"]) == fds
    assert (event["res"], event["sa_family"], event["protocol"]) == ("0", str(family), "6")


def test_accept(listener: socket.socket, collector: Collector) -> None:
    """accept(2), the old call, is told like accept4(2)."""
    library = ctypes.CDLL(None, use_errno=True)
    with socket.create_connection(listener.getsockname()[:2]):
        fd = library.accept(listener.fileno(), None, None)
        with socket.socket(fileno=fd) as server:
            expected = both(server)
    event = accepted(collector)[-1]
    assert (ends(event), event["fd"]) == (expected, str(fd))


def test_any_descriptor(listener: socket.socket, collector: Collector) -> None:
    """A connection that gets a descriptor of over 900 is told like any other."""
    low = [os.dup(0) for _ in range(900 - os.dup(0))]
    try:
        with socket.create_connection(listener.getsockname()[:2]), listener.accept()[0] as server:
            expected, fd = both(server), server.fileno()
    finally:
        os.closerange(low[0] - 1, low[-1] + 1)
    assert fd >= 900
    event = accepted(collector)[-1]
    assert (ends(event), event["fd"]) == (expected, str(fd))


def test_many(programs: Programs, collector: Collector) -> None:
    """Of 2,000 accepted connections, v4 and v6, each is told once."""
    with subprocess.Popen([programs("connect"), "2000", "0"], stdout=subprocess.PIPE) as process:
        made, _ = process.communicate()
    assert process.returncode == 0
    expected = Counter(
        (HOSTS[family], port, HOSTS[family], local)
        for family, _fd, local, port in (line.split() for line in made.decode().splitlines())
    )
    told = accepted(collector, process.pid)
    assert Counter(map(ends, told)) == expected
    assert {event["res"] for event in told} == {"0"}


@pytest.mark.guest("accept", silent=True)
def test_failures(family: int, collector: Collector) -> None:
    """accept of a socket that does not listen tells -22 and its address; EAGAIN, a file or AF_UNIX is no event."""
    before = len(accepted(collector))
    with socket.socket(family) as idle, socket.create_server((HOSTS[str(family)], 0), family=family) as busy:
        idle.bind((HOSTS[str(family)], 0))
        port = idle.getsockname()[1]
        with pytest.raises(OSError, match="Invalid"):
            idle.accept()
        fd = idle.fileno()
        busy.setblocking(False)
        with pytest.raises(BlockingIOError):
            busy.accept()
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(socket.AF_UNIX) as client:
        unix.bind(b"\0hookline-accept-%d" % os.getpid())
        unix.listen()
        client.connect(unix.getsockname())
        unix.accept()[0].close()
    assert ctypes.CDLL(None).accept(999, None, None) == -1
    [event] = accepted(collector)[before:]
    assert (event["res"], event["fd"], event["listener_fd"]) == (str(-errno.EINVAL), "-1", str(fd))
    assert (event["sip"], event["sport"], event["dport"]) == (HOSTS[str(family)], str(port), "0")


def test_a_signal_interrupts(collector: Collector) -> None:
    """An accept that a signal ends tells EINTR, as its caller saw it, and no number of the kernel's own."""
    code = """
import signal, socket, sys
signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.05)
socket.create_server(("127.0.0.1", 0)).accept()
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert process.wait(LIMIT_S) == 0
    [event] = accepted(collector, process.pid)
    assert event["res"] == str(-errno.EINTR)


@pytest.mark.guest("accept", sees="io_uring")
def test_io_uring(programs: Programs, collector: Collector) -> None:
    """A connection accepted through io_uring is told, with the descriptor that it got."""
    with subprocess.Popen([programs("uring_accept")], stdout=subprocess.PIPE) as process:
        said, _ = process.communicate()
    if process.returncode in {errno.ENOSYS, errno.EPERM}:
        pytest.skip(f"this kernel has no io_uring for us: {os.strerror(process.returncode)}")
    assert process.returncode == 0
    fd, port, client_port = said.decode().split()
    [event] = accepted(collector, process.pid)
    assert (event["fd"], event["listener_fd"], event["res"]) == (fd, "-1", "0")
    assert ends(event) == ("127.0.0.1", port, "127.0.0.1", client_port)


def test_loopback_can_be_left_out(tmp_path: Path) -> None:
    """With filters.loopback an accepted connection from loopback is counted as filtered, and is no event."""
    tables: Tables = {"collector": {"probes": ["accept", "execve"]}, "filters": {"loopback": True}}
    with Collector(tmp_path, tables) as collector:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            server.accept()[0].close()
        assert not accepted(collector)
        outcome = collector.stop(signal.SIGTERM)
    outcome.check()
    assert outcome.kind("accept")["filtered"] >= 1
