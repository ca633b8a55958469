# SPDX-License-Identifier: GPL-2.0-or-later
"""Binding sockets to addresses: what the kernel gave, what it refused, and what is no event."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import re
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.collector import Collector, Event
from tests.live.test_connections import ADDRESSES, HOSTS, NOWHERE, family
from tests.live.tools import run
from tests.live.views import BIND, caused_by

__all__ = ["family"]


def binds(collector: Collector) -> list[Event]:
    """The binds of this process."""
    return caused_by(collector.sync(), os.getpid(), BIND)


def ends(event: Event) -> tuple[str, str, str, str]:
    """What must be the same as the socket's own words."""
    return event["sa_family"], event["fd"], event["sip"], event["sport"]


@pytest.mark.guest("bind")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_any_port(family: int, kind: int, collector: Collector) -> None:
    """A bind to port 0 tells the port that the socket got, in host order, as getsockname(2) says it."""
    with socket.socket(family, kind) as server:
        server.bind((HOSTS[str(family)], 0))
        name = server.getsockname()
        fd = server.fileno()
    event = binds(collector)[-1]
    assert ends(event) == (str(family), str(fd), name[0], str(name[1]))
    protocol = {socket.SOCK_STREAM: "6", socket.SOCK_DGRAM: "17"}[socket.SocketKind(kind)]
    assert (event["res"], event["protocol"], event["from_caller"]) == ("0", protocol, "0")


def test_a_listener_as_ss_shows_it(collector: Collector) -> None:
    """The wildcard address and the port of a listener are those that ss(8) shows of its process."""
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        shown = run("ss", "-Hltnp").stdout.decode()
        mark = f"pid={os.getpid()},fd={server.fileno()})"
    [line] = [line for line in shown.splitlines() if mark in line]
    found = re.search(r"(\S+):(\d+) ", line)
    assert found is not None
    event = binds(collector)[-1]
    assert (event["sip"], event["sport"]) == (found[1], found[2])


@pytest.mark.guest("bind")
def test_an_address_in_use(family: int, collector: Collector) -> None:
    """A refused bind tells the errno and what was asked for, as the caller's word."""
    host = HOSTS[str(family)]
    with socket.create_server((host, 0), family=family) as first, socket.socket(family) as second:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            second.bind((host, port))
        fd = second.fileno()
    event = binds(collector)[-1]
    assert ends(event) == (str(family), str(fd), host, str(port))
    assert (event["res"], event["from_caller"]) == (str(-errno.EADDRINUSE), "1")


def test_an_address_of_another_host(collector: Collector) -> None:
    """A bind to an address that this host does not have tells that address."""
    with socket.socket() as server, pytest.raises(OSError, match="Cannot assign"):
        server.bind((NOWHERE, 4711))
    event = binds(collector)[-1]
    assert (event["res"], event["sip"], event["sport"]) == (str(-errno.EADDRNOTAVAIL), NOWHERE, "4711")


def test_a_second_bind(collector: Collector) -> None:
    """A socket that is bound already refuses, and the event tells what was asked for, not what it has."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="Invalid"):
            server.bind(("127.0.0.2", 4712))
    event = binds(collector)[-1]
    assert (event["res"], event["sip"], event["sport"]) == (str(-errno.EINVAL), "127.0.0.2", "4712")


def test_any_descriptor(collector: Collector) -> None:
    """A socket on descriptor 900 is told like any other."""
    with socket.socket() as server:
        os.dup2(server.fileno(), 900)
        with socket.socket(fileno=900) as same:
            same.bind(("127.0.0.1", 0))
            port = same.getsockname()[1]
    assert ends(binds(collector)[-1]) == ("2", "900", "127.0.0.1", str(port))


def bind_raw(fd: int, address: bytes | None, length: int) -> int:
    """bind(2) with these bytes; gives 0 or the negative errno."""
    library = ctypes.CDLL(None, use_errno=True)
    return -ctypes.get_errno() if library.bind(fd, address, length) else 0


def test_hostile_addresses(collector: Collector) -> None:
    """Of random bytes as an address, no memory at all and absurd lengths, each bind is told with its errno."""
    draw = random.Random(49)
    results = []
    with socket.socket() as v4, socket.socket(socket.AF_INET6) as v6:
        for _ in range(100):
            fd = draw.choice([v4, v6]).fileno()
            address = draw.choice([draw.randbytes(28), struct.pack("=H", 10) + draw.randbytes(26), None])
            results.append(bind_raw(fd, address, draw.choice([0, 1, 15, 16, 28, 4096, -1])))
    told = binds(collector)[-len(results) :]
    assert [int(event["res"]) for event in told] == results
    assert len({event["res"] for event in told}) > 1


@pytest.mark.guest("bind", silent=True)
def test_what_is_no_event(collector: Collector) -> None:
    """Binding an AF_UNIX socket, a file or nothing at all is no event."""
    before = len(binds(collector))
    with socket.socket(socket.AF_UNIX) as unix, open(os.devnull, "rb") as file:
        unix.bind(b"\0hookline-bind-%d" % os.getpid())
        address = struct.pack("=HHI8x", 2, 0, 0)
        assert bind_raw(file.fileno(), address, 16) == -errno.ENOTSOCK
        assert bind_raw(999, address, 16) == -errno.EBADF
    assert len(binds(collector)) == before


def test_eight_at_once(collector: Collector) -> None:
    """Of 2,000 binds by eight threads each is told once, with the port that it got."""

    def work(count: int) -> list[tuple[str, str]]:
        made = []
        for at in range(count):
            host = list(ADDRESSES.values())[at % 2]
            with socket.socket(list(ADDRESSES)[at % 2], socket.SOCK_DGRAM) as one:
                one.bind((host, 0))
                made.append((host, str(one.getsockname()[1])))
        return made

    before = len(binds(collector))
    with ThreadPoolExecutor(8) as pool:
        made = [one for some in pool.map(work, [250] * 8) for one in some]
    told = [(event["sip"], event["sport"]) for event in binds(collector)[before:]]
    assert sorted(told) == sorted(made)


def test_ecs(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In ecs the address stands under source, typed, with the transport by name."""
    with Collector(tmp_path_factory.mktemp("ecs"), schema="ecs") as ecs:
        with subprocess.Popen(["true"]), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.bind(("::1", 0))
            port = one.getsockname()[1]
        [event] = caused_by(ecs.sync(), os.getpid(), BIND)
        ecs.stop().check()
    assert event["source"] == {"ip": "::1", "port": port}
    assert event["network"] == {"type": "ipv6", "transport": "udp"}
    assert event["event"]["outcome"] == "success"
