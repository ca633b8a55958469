# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections: thousands on loopback, and one of every sort."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.needs import by_function
from tests.live.tools import run
from tests.live.views import CONNECT, CREATE_FILE, caused_by

ADDRESSES = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
HOSTS = {str(int(family)): host for family, host in ADDRESSES.items()}
NOWHERE = "192.0.2.1"
"""For documentation (RFC 5737): nobody is there."""


def connections(collector: Collector, pid: int | None = None) -> list[Event]:
    """The connections of a process, by default of this one."""
    return caused_by(collector.sync(), pid or os.getpid(), CONNECT)


def to(collector: Collector, port: int) -> list[Event]:
    """This process's connections to that port."""
    return [event for event in connections(collector) if event["dport"] == str(port)]


@pytest.fixture(params=ADDRESSES, ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def listener(family: int) -> Iterator[socket.socket]:
    with socket.create_server((HOSTS[str(family)], 0), family=family) as server:
        yield server


def test_twenty_thousand_connections(programs: Programs, collector: Collector) -> None:
    """Of 20,000 loopback connections, v4 and v6, each is told once, with both of its ends."""
    with subprocess.Popen([programs("connect"), "20000", "0"], stdout=subprocess.PIPE) as process:
        made, _ = process.communicate()
    assert process.returncode == 0
    expected = Counter(
        (family, fd, HOSTS[family], local, HOSTS[family], port)
        for family, fd, local, port in (line.split() for line in made.decode().splitlines())
    )
    assert expected.total() == 20_000
    told = connections(collector, process.pid)
    keys = ("sa_family", "fd", "sip", "sport", "dip", "dport")
    assert Counter(tuple(event[key] for key in keys) for event in told) == expected
    assert {(event["res"], event["protocol"], event["from_caller"]) for event in told} == {("0", "6", "0")}


@pytest.mark.guest("connect")
def test_a_refused_connection(family: int, listener: socket.socket, attach: str | None, collector: Collector) -> None:
    """A refused connection tells -111, the peer that was asked for, and whether that is the caller's own word."""
    port = listener.getsockname()[1]
    listener.close()
    with socket.socket(family) as client:
        assert client.connect_ex((HOSTS[str(family)], port)) == errno.ECONNREFUSED
        fd = client.fileno()
    [event] = to(collector, port)
    assert (event["res"], event["fd"], event["sa_family"]) == (str(-errno.ECONNREFUSED), str(fd), str(family))
    assert (event["dip"], event["from_caller"]) == (HOSTS[str(family)], "0" if by_function(attach) else "1")


@pytest.mark.guest("connect", every=True)
def test_a_connection_under_way(family: int, listener: socket.socket, collector: Collector) -> None:
    """A non-blocking connect tells -115 and both ends; a second one on the same socket is told too."""
    host, port = listener.getsockname()[:2]
    with socket.socket(family) as client:
        client.setblocking(False)
        assert client.connect_ex((host, port)) == errno.EINPROGRESS
        local = client.getsockname()[1]
        listener.accept()[0].close()
        assert client.connect_ex((host, port)) == 0
    told = to(collector, port)
    assert [event["res"] for event in told] == [str(-errno.EINPROGRESS), "0"]
    assert {(event["sip"], event["sport"], event["dip"]) for event in told} == {(host, str(local), host)}


def test_a_datagram_socket(family: int, collector: Collector) -> None:
    """connect(2) of a UDP socket is told, with the address that it chose; so is connecting it elsewhere."""
    host = HOSTS[str(family)]
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect((host, 53))
        first = client.getsockname()[1]
        client.connect((host, 5353))
    for port in (53, 5353):
        event = to(collector, port)[-1]
        assert (event["res"], event["protocol"], event["sa_family"]) == ("0", "17", str(family))
        assert (event["sip"], event["sport"], event["dip"]) == (host, str(first), host)


def connect_raw(client: socket.socket, host: str, port: int) -> int:
    """connect(2) with an IPv4 address, whatever the socket's family; gives what the kernel answers."""
    address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    library = ctypes.CDLL(None, use_errno=True)
    return -ctypes.get_errno() if library.connect(client.fileno(), address, len(address)) else 0


def test_a_failure_tells_what_was_asked(attach: str | None, collector: Collector) -> None:
    """A connect that fails tells the peer that was asked for, and not the one that the socket still has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", 53))
        number = connect_raw(client, "255.255.255.255", 77)
    assert number == -errno.EACCES
    event = connections(collector)[-1]
    assert (event["res"], event["dip"], event["dport"]) == (str(number), "255.255.255.255", "77")
    assert event["from_caller"] == ("0" if by_function(attach) else "1")


def test_an_address_of_another_family(collector: Collector) -> None:
    """A v4 address that a v6 socket refuses is not told as a v6 address that nobody named."""
    with socket.socket(socket.AF_INET6) as client:
        number = connect_raw(client, "127.0.0.1", 4321)
    assert number < 0
    event = connections(collector)[-1]
    assert (event["res"], event["dip"] in {"127.0.0.1", "::ffff:127.0.0.1", "::", "-1"}) == (str(number), True), event


def test_a_thread_connects(collector: Collector) -> None:
    """A connection tells the thread as pid, and the process as tgid."""
    threads: list[int] = []

    def work() -> None:
        threads.append(threading.get_native_id())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", 42))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    [event] = to(collector, 42)
    assert (event["pid"], event["tgid"]) == (str(threads[0]), str(os.getpid()))


def test_a_connection_that_a_signal_interrupts(collector: Collector) -> None:
    """A connect that a signal ends tells what its caller saw, EINTR, and no number of the kernel's own."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        code = f"""
import signal, socket, sys
signal.signal(signal.SIGALRM, lambda *_: sys.exit(0))
waiting = [socket.socket() for _ in range(64)]
for each in waiting[:-1]:
    each.setblocking(False)
    each.connect_ex(("127.0.0.1", {port}))
signal.setitimer(signal.ITIMER_REAL, 0.05)
waiting[-1].connect(("127.0.0.1", {port}))
"""
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            assert process.wait() == 0
    told = connections(collector, process.pid)
    assert len(told) == 64
    assert told[-1]["res"] == str(-errno.EINTR)


def test_v4_through_a_v6_socket(collector: Collector) -> None:
    """A v4 peer of a v6 socket is told as the mapped address that the socket holds."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as client:
        port = server.getsockname()[1]
        client.connect(("::ffff:127.0.0.1", port))
    [event] = to(collector, port)
    assert (event["sip"], event["dip"], event["res"]) == ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "0")


@pytest.mark.guest("connect", silent=True)
def test_what_is_no_socket(collector: Collector) -> None:
    """connect(2) of something else than a socket is no event."""
    before = len(connections(collector))
    with open(os.devnull, "rb") as file, closing(socket.socket(fileno=None)) as other:
        copy = os.dup2(file.fileno(), os.dup(other.fileno()))
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            socket.socket(fileno=copy).connect(("127.0.0.1", 1))
        os.close(copy)
    assert len(connections(collector)) == before


@pytest.mark.guest("connect", "create_file", sees="io_uring")
def test_io_uring(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """Connections and files made through io_uring are told, the failed connection too; opening again is not."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen([programs("uring"), tmp_path, str(port)], stdout=subprocess.PIPE) as process:
            said, _ = process.communicate()
    if process.returncode in {errno.ENOSYS, errno.EPERM}:
        pytest.skip(f"this kernel has no io_uring for us: {os.strerror(process.returncode)}")
    results = [int(line) for line in said.split()]
    assert results[3:] == [0, -errno.ECONNREFUSED]
    told = connections(collector, process.pid)
    assert [(event["res"], event["fd"]) for event in told] == [("0", "-1"), ("-111", "-1")]
    assert (told[0]["dip"], told[0]["dport"]) == ("127.0.0.1", str(port))
    created = [event["file_path"] for event in caused_by(collector.events, process.pid, CREATE_FILE)]
    assert created == [str(tmp_path / "openat"), str(tmp_path / "openat2")]


def test_the_program_is_told(collector: Collector) -> None:
    """A connection names its process: executable, MD5, user, tree."""
    run("bash", "-c", "exec 3<>/dev/udp/127.0.0.1/7")
    event = next(
        event
        for event in reversed(collector.sync())
        if event["data_type"] == "42" and event["dport"] == "7" and event["comm"] == "bash"
    )
    assert os.path.basename(event["exe"]) == "bash"
    assert len(event["exe_md5"]) == 32
    assert event["user"] == "root"
    assert f"->{os.getpid()}(" in event["pid_tree"]
    assert event["pid_tree"].endswith(f"->{event['pid']}(bash)")
