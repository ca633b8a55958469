# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole TCP connections: both directions, bytes to the last one, and every way to end."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.test_connections import HOSTS, family, listener
from tests.live.tools import run, until
from tests.live.views import TCP_SESSION

__all__ = ["family", "listener"]

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset."""


@pytest.fixture
def began() -> int:
    """When the test began, in ns since boot: an earlier one may have had the same port."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def sessions(collector: Collector, began: int, *ports: int) -> list[Event]:
    """The sessions with one of these ports on either side that ended after `began`."""
    wanted = {str(port) for port in ports}
    return [
        event
        for event in collector.sync()
        if event["data_type"] == str(TCP_SESSION)
        and int(event["end"]) > began
        and wanted & {event["sport"], event["dport"]}
    ]


def both(collector: Collector, began: int, port: int) -> tuple[Event, Event]:
    """The one session with that listener as its two ends saw it: outgoing, incoming."""

    def look() -> list[Event]:
        found = sessions(collector, began, port)
        return found if len(found) == 2 else []

    try:
        first, second = until(look, f"two sessions with port {port}")
    except AssertionError as error:
        error.add_note(f"There were {sessions(collector, began, port)}; skipped {collector.skipped_by_kernel()} times.")
        raise
    return (first, second) if first["direction"] == "OUT" else (second, first)


def ends(event: Event) -> tuple[str, str, str, str]:
    return event["sip"], event["sport"], event["dip"], event["dport"]


def names(one: socket.socket) -> tuple[str, str, str, str]:
    """Both ends as the socket's own calls say."""
    (sip, sport, *_), (dip, dport, *_) = one.getsockname(), one.getpeername()
    return sip, str(sport), dip, str(dport)


def client_first(client: socket.socket, server: socket.socket) -> None:
    client.close()
    assert server.recv(1) == b""
    server.close()


def server_first(client: socket.socket, server: socket.socket) -> None:
    server.close()
    assert client.recv(1) == b""
    client.close()


def half(client: socket.socket, server: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    client.close()
    server.close()


@pytest.mark.guest("tcp_session", every=True)
@pytest.mark.parametrize("end", [client_first, server_first, half])
def test_a_session(
    family: int,
    listener: socket.socket,
    end: Callable[[socket.socket, socket.socket], None],
    collector: Collector,
    began: int,
) -> None:
    """Both ends of a connection are told, each with its ends, its bytes to the last one, its time and its process."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    server = listener.accept()[0]
    expected = {"OUT": names(client), "IN": names(server)}
    client.sendall(b"q" * 1234)
    assert len(server.recv(1234, socket.MSG_WAITALL)) == 1234
    server.sendall(b"a" * 56789)
    assert len(client.recv(56789, socket.MSG_WAITALL)) == 56789
    end(client, server)
    ended = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    out, incoming = both(collector, began, port)
    for event in (out, incoming):
        assert ends(event) == expected[event["direction"]]
        assert (event["sa_family"], event["res"], event["result"]) == (str(family), "0", "established")
        assert event["tgid"] == str(os.getpid())
        start, finish = int(event["start"]), int(event["end"])
        assert began < start < finish
        assert start < ended
        assert int(event["duration"]) == finish - start
    assert (out["rx"], out["tx"]) == ("56789", "1234")
    assert (incoming["rx"], incoming["tx"]) == ("1234", "56789")


def test_no_bytes(family: int, listener: socket.socket, collector: Collector, began: int) -> None:
    """A connection without data has no bytes: neither SYN nor FIN is counted."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    client_first(client, listener.accept()[0])
    assert [(event["rx"], event["tx"]) for event in both(collector, began, port)] == [("0", "0")] * 2


def test_refused(family: int, listener: socket.socket, collector: Collector, began: int) -> None:
    """A refused connection is told as refused, with both ends and the process that tried."""
    port = listener.getsockname()[1]
    listener.close()
    with socket.socket(family) as client:
        client.bind((HOSTS[str(family)], 0))
        local = client.getsockname()[1]
        assert client.connect_ex((HOSTS[str(family)], port)) == errno.ECONNREFUSED
    [event] = sessions(collector, began, port)
    assert ends(event) == (HOSTS[str(family)], str(local), HOSTS[str(family)], str(port))
    assert (event["direction"], event["result"], event["res"]) == ("OUT", "refused", str(-errno.ECONNREFUSED))
    assert (event["rx"], event["tx"], event["tgid"]) == ("0", "0", str(os.getpid()))


def test_reset(listener: socket.socket, collector: Collector, began: int) -> None:
    """Where the peer resets a connection it is told as reset; whoever reset it closed an established one."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    server = listener.accept()[0]
    client.sendall(b"q" * 10)
    assert server.recv(10) == b"q" * 10
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    client.close()
    out, incoming = both(collector, began, port)
    server.close()
    assert (out["result"], out["res"], out["tx"]) == ("established", "0", "10")
    assert (incoming["result"], incoming["res"], incoming["rx"]) == ("reset", str(-errno.ECONNRESET), "10")


def test_timeout(collector: Collector, began: int) -> None:
    """A connection that nobody answers is told as timed out once the kernel gives up."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.socket() as client:
        port = server.getsockname()[1]
        full = [socket.socket() for _ in range(4)]
        for each in full:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        client.bind(("127.0.0.1", 0))
        local = client.getsockname()[1]
        assert client.connect_ex(("127.0.0.1", port)) == errno.ETIMEDOUT
        for each in full:
            each.close()
    [event] = sessions(collector, began, local)
    assert (event["direction"], event["result"], event["res"]) == ("OUT", "timeout", str(-errno.ETIMEDOUT))


def test_nobody_accepts(listener: socket.socket, collector: Collector, began: int) -> None:
    """A connection that ends before anybody accepts it is told without a process, and not with anybody's."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    client.close()
    _out, incoming = both(collector, began, port)
    assert (incoming["tgid"], incoming["pid"], incoming["comm"], incoming["user"]) == ("0", "0", "-1", "-1")
    assert (incoming["direction"], incoming["result"]) == ("IN", "reset")


def test_another_process_ends_it(listener: socket.socket, collector: Collector, began: int) -> None:
    """A session is told with the process that opened or accepted it, even where another one closes it last."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    server = listener.accept()[0]
    fds = [client.fileno(), server.fileno()]
    with subprocess.Popen(["sleep", "30"], pass_fds=fds) as holder:
        client.close()
        server.close()
        assert not sessions(collector, began, port)
        holder.kill()
    out, incoming = both(collector, began, port)
    assert {out["tgid"], incoming["tgid"]} == {str(os.getpid())}


@pytest.mark.guest("tcp_session", silent=True)
def test_listeners_and_udp_are_no_sessions(family: int, collector: Collector, began: int) -> None:
    """Closing a listener, an idle TCP socket, UDP or AF_UNIX is no session."""
    host = HOSTS[str(family)]
    ports = []
    with socket.create_server((host, 0), family=family) as server, socket.socket(family) as idle:
        idle.bind((host, 0))
        ports += [server.getsockname()[1], idle.getsockname()[1]]
    with socket.socket(family, socket.SOCK_DGRAM) as first, socket.socket(family, socket.SOCK_DGRAM) as second:
        first.bind((host, 0))
        second.connect(first.getsockname())
        ports += [first.getsockname()[1], second.getsockname()[1]]
    assert not sessions(collector, began, *ports)


def test_four_thousand(programs: Programs, collector: Collector) -> None:
    """Of 4,000 connections, v4 and v6, each is told twice, once a direction, with the right ports and process."""
    with subprocess.Popen([programs("connect"), "4000", "0"], stdout=subprocess.PIPE) as process:
        made, _ = process.communicate()
    assert process.returncode == 0
    lines = [line.split() for line in made.decode().splitlines()]
    expected = Counter(("OUT", HOSTS[family], local, port) for family, _fd, local, port in lines)
    expected += Counter(("IN", HOSTS[family], port, local) for family, _fd, local, port in lines)
    told = [each for each in collector.sync() if each["data_type"] == "802" and each["tgid"] == str(process.pid)]
    assert Counter((each["direction"], each["sip"], each["sport"], each["dport"]) for each in told) == expected


def test_many_bytes_at_once(listener: socket.socket, collector: Collector, began: int) -> None:
    """Of 40 connections at once with random lengths each has its own counts, to the byte."""
    port = listener.getsockname()[1]
    draw = random.Random(802)
    lengths = [(draw.randrange(1, 200_000), draw.randrange(1, 200_000)) for _ in range(40)]

    def serve(_number: int) -> None:
        server = listener.accept()[0]
        with server:
            there, back = struct.unpack("II", server.recv(8, socket.MSG_WAITALL))
            assert len(server.recv(there, socket.MSG_WAITALL)) == there
            server.sendall(bytes(back))
            assert server.recv(1) == b""

    def ask(length: tuple[int, int]) -> tuple[str, str, str]:
        with socket.create_connection(listener.getsockname()[:2]) as client:
            client.sendall(struct.pack("II", *length) + bytes(length[0]))
            assert len(client.recv(length[1], socket.MSG_WAITALL)) == length[1]
            return str(client.getsockname()[1]), str(length[0] + 8), str(length[1])

    with ThreadPoolExecutor(80) as pool:
        served = [pool.submit(serve, number) for number in range(40)]
        asked = sorted(pool.map(ask, lengths))
        assert [each.result() for each in served] == [None] * 40

    def look() -> list[Event]:
        found = sessions(collector, began, port)
        return found if len(found) == 80 else []

    told = until(look, "80 sessions")
    assert sorted((e["sport"], e["tx"], e["rx"]) for e in told if e["direction"] == "OUT") == asked
    assert sorted((e["dport"], e["rx"], e["tx"]) for e in told if e["direction"] == "IN") == asked


def test_as_ss_counts(listener: socket.socket, collector: Collector, began: int) -> None:
    """The bytes of a connection are those that ss(8) showed of it, which counts the SYN as one."""
    port = listener.getsockname()[1]
    client = socket.create_connection(listener.getsockname()[:2])
    server = listener.accept()[0]
    client.sendall(b"q" * 777)
    server.recv(777, socket.MSG_WAITALL)
    local = client.getsockname()[1]

    def acknowledged() -> str | None:
        shown = run("ss", "-Htin", f"sport = :{local}").stdout.decode()
        return shown if "bytes_acked:778" in shown else None

    until(acknowledged, "ss shows what was acknowledged")
    client_first(client, server)
    out, _incoming = both(collector, began, port)
    assert out["tx"] == "777"


def test_one_that_was_there_before(tmp_path_factory: pytest.TempPathFactory, began: int) -> None:
    """A connection from before the start is told at its end, without start, direction and process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(server.getsockname())
        accepted = server.accept()[0]
        with Collector(tmp_path_factory.mktemp("late")) as late:
            client_first(client, accepted)
            until(lambda: len(sessions(late, began, port)) == 2, "both ends")
            told = sessions(late, began, port)
            late.stop().check()
    for event in told:
        assert (event["direction"], event["start"], event["duration"], event["tgid"]) == ("-1", "0", "0", "0")
        assert event["result"] == "established" or event["res"] == "0"


def test_ecs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In ecs the source is who opened the connection, on both sides of it, with its bytes."""
    with Collector(tmp_path_factory.mktemp("ecs"), schema="ecs") as ecs:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            client = socket.create_connection(listening.getsockname())
            server = listening.accept()[0]
            local = client.getsockname()[1]
            client.sendall(b"qq")
            server.recv(2)
            client_first(client, server)

        def look() -> list[Event]:
            found = [each for each in ecs.sync() if each.get("hookline", {}).get("data_type") == TCP_SESSION]
            mine = [each for each in found if each["destination"]["port"] == port]
            return mine if len(mine) == 2 else []

        told = until(look, "both ends")
        ecs.stop().check()
    for event in told:
        assert event["source"] == {"ip": "127.0.0.1", "port": local, "bytes": 2}
        assert event["destination"] == {"ip": "127.0.0.1", "port": port, "bytes": 0}
        assert event["hookline"]["tcp"] == {"result": "established"}
        assert event["event"]["duration"] > 0
        assert event["event"]["start"] < event["event"]["end"] == event["@timestamp"]
    assert {event["network"]["direction"] for event in told} == {"inbound", "outbound"}


def test_loopback_can_be_left_out(tmp_path_factory: pytest.TempPathFactory, began: int) -> None:
    """With filters.loopback a session on loopback is counted as filtered, and is no event."""
    with Collector(tmp_path_factory.mktemp("filter"), {"filters": {"loopback": True}}) as collector:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            client = socket.create_connection(listening.getsockname())
            client_first(client, listening.accept()[0])
        assert not sessions(collector, began, port)
        outcome = collector.stop()
    outcome.check()
    assert outcome.kind("tcp_session")["filtered"] >= 2
