# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of name servers: a server of our own on port 53 of loopback, and every way to receive what it sends."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import dnslib
import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S
from tests.live.views import DNS, caused_by

HOSTS = {
    socket.AF_INET: f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}",
    socket.AF_INET6: "::1",
}
"""Where the server is; of v4, an address that no other test has."""


@pytest.fixture(params=HOSTS, ids=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def host(family: int) -> str:
    return HOSTS[socket.AddressFamily(family)]


_names = iter(range(1 << 30))


def answer(count: int = 1, *, name: str = "", text: int = 0) -> tuple[str, bytes]:
    """A name that no other answer has, and an answer with `count` addresses and a text of so many bytes."""
    name = name or f"host{next(_names)}.hookline.test"
    reply = dnslib.DNSRecord.question(name).reply()
    for number in range(count):
        reply.add_answer(dnslib.RR(name, rdata=dnslib.A(f"192.0.{number // 250 + 2}.{number % 250 + 1}"), ttl=60))
    if text:
        reply.add_answer(dnslib.RR(name, dnslib.QTYPE.TXT, rdata=dnslib.TXT([b"x" * text]), ttl=60))
    return name, bytes(reply.pack())


@contextmanager
def udp(family: int, port: int = 53) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's socket on that port and a client's, which is connected to it."""
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((host(family), port))
        client.connect(server.getsockname())
        yield server, client


@contextmanager
def tcp(family: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The same of a stream."""
    with socket.create_server((host(family), 53), family=family) as listener, socket.socket(family) as client:
        client.connect(listener.getsockname())
        server = listener.accept()[0]
        with server:
            yield server, client


def told(collector: Collector, name: str, pid: int | None = None) -> list[Event]:
    """This process's events of that question."""
    events = caused_by(collector.sync(), pid or os.getpid(), DNS)
    return [event for event in events if event["query"] == name]


def ends_of(client: socket.socket) -> dict[str, str]:
    """Both ends as the client's own calls say."""
    (sip, sport, *_), (dip, dport, *_) = client.getsockname(), client.getpeername()
    return {"sip": sip, "sport": str(sport), "dip": dip, "dport": str(dport)}


def check(event: Event, expected: dict[str, str]) -> None:
    assert {key: event[key] for key in expected} == expected


class MessageHeader(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovs", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_size_t),
        ("length", ctypes.c_size_t),
    )


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def recvmmsg(client: socket.socket, count: int) -> int:
    """recvmmsg(2) of so many messages with the senders' addresses; gives how many came."""
    buffers = [ctypes.create_string_buffer(600) for _ in range(count)]
    names = [ctypes.create_string_buffer(28) for _ in range(count)]
    pieces = (Piece * count)(*(Piece(ctypes.addressof(each), 600) for each in buffers))
    size = ctypes.sizeof(Piece)
    headers = (MessageHeader * count)(
        *(
            MessageHeader(ctypes.addressof(names[at]), 28, ctypes.addressof(pieces) + at * size, 1)
            for at in range(count)
        )
    )
    return int(ctypes.CDLL(None, use_errno=True).recvmmsg(client.fileno(), headers, count, socket.MSG_DONTWAIT, None))


def scattered(client: socket.socket) -> None:
    """recvmsg(2) into pieces of 1, 7, 0, 20 and 4,000 bytes."""
    client.recvmsg_into([bytearray(size) for size in (1, 7, 0, 20, 4000)])


WAYS: dict[str, Callable[[socket.socket], object]] = {
    "recv": lambda client: client.recv(4096),
    "recvfrom": lambda client: client.recvfrom(4096),
    "recvmsg": lambda client: client.recvmsg(4096),
    "recvmsg scattered": scattered,
    "recvmmsg": lambda client: recvmmsg(client, 1),
    "read": lambda client: os.read(client.fileno(), 4096),
    "readv": lambda client: os.readv(client.fileno(), [bytearray(2), bytearray(4094)]),
}


@pytest.mark.guest("dns")
@pytest.mark.parametrize("way", WAYS)
def test_udp(family: int, way: str, collector: Collector) -> None:
    """A UDP answer is told once, however it is received, with both ends, the descriptor and what it says."""
    name, message = answer(2)
    with udp(family) as (server, client):
        server.sendto(message, client.getsockname())
        WAYS[way](client)
        ends, fd = ends_of(client), client.fileno()
    [event] = told(collector, name)
    check(event, ends)
    check(
        event, {"fd": str(fd), "sa_family": str(family), "protocol": "17", "peer_from": "0", "size": str(len(message))}
    )
    check(event, {"qr": "1", "opcode": "0", "rcode": "0", "qtype": "A", "qclass": "IN", "malformed": "-1"})
    check(event, {"answers": f"{name} A 192.0.2.1; {name} A 192.0.2.2", "answers_count": "2"})
    assert event["dport"] == "53"


@pytest.mark.guest("dns")
@pytest.mark.parametrize("way", WAYS)
def test_tcp(family: int, way: str, collector: Collector) -> None:
    """A TCP answer behind its length is told once; the length is no part of the message."""
    name, message = answer()
    with tcp(family) as (server, client):
        server.sendall(struct.pack("!H", len(message)) + message)
        WAYS[way](client)
        ends = ends_of(client)
    [event] = told(collector, name)
    check(event, ends)
    check(event, {"protocol": "6", "answers": f"{name} A 192.0.2.1", "malformed": "-1", "size": str(len(message))})


def test_tcp_length_first(family: int, collector: Collector) -> None:
    """A TCP answer whose length is read by itself, as glibc does, is told once."""
    name, message = answer()
    with tcp(family) as (server, client):
        server.sendall(struct.pack("!H", len(message)) + message)
        length = struct.unpack("!H", os.read(client.fileno(), 2))[0]
        assert os.read(client.fileno(), length) == message
    [event] = told(collector, name)
    check(event, {"answers": f"{name} A 192.0.2.1", "malformed": "-1", "size": str(len(message))})


@pytest.mark.guest("dns")
@pytest.mark.parametrize("way", ["recvfrom", "recvmsg", "recvmmsg"])
@pytest.mark.parametrize("port", [53, 5353])
def test_a_socket_that_is_not_connected(family: int, port: int, way: str, collector: Collector) -> None:
    """At a socket that is not connected, the sender is told as the kernel told the caller."""
    name, message = answer()
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((host(family), port))
        client.bind((host(family), 0))
        server.sendto(message, client.getsockname())
        WAYS[way](client)
        local = client.getsockname()
    [event] = told(collector, name)
    check(event, {"dip": host(family), "dport": str(port), "peer_from": "1", "answers": f"{name} A 192.0.2.1"})
    check(event, {"sip": local[0], "sport": str(local[1]), "sa_family": str(family)})


def test_multicast(collector: Collector) -> None:
    """A multicast answer to a socket on port 5353 whose caller does not ask for the sender has an unknown peer."""
    name = f"web{next(_names)}.local"
    reply = dnslib.DNSRecord(dnslib.DNSHeader(qr=1, aa=1))
    reply.add_answer(dnslib.RR(name, rclass=0x8001, rdata=dnslib.A("192.0.2.9"), ttl=60))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind((host(socket.AF_INET), 5353))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.53", 5353))
        server.sendto(bytes(reply.pack()), client.getsockname())
        client.recv(4096)
    [event] = [each for each in caused_by(collector.sync(), os.getpid(), DNS) if name in each["answers"]]
    check(event, {"dip": "-1", "dport": "0", "peer_from": "2", "sport": "5353", "query": "-1"})
    check(event, {"answers": f"{name} A 192.0.2.9", "malformed": "-1"})


def test_any_descriptor_and_thread(collector: Collector) -> None:
    """An answer on descriptor 900 tells the thread that received it, its process, and that descriptor."""
    name, message = answer()
    with udp(socket.AF_INET) as (server, client):
        os.dup2(client.fileno(), 900)
        server.sendto(message, client.getsockname())
        code = "import os; print(os.getpid(), len(os.read(900, 4096)))"
        said = subprocess.run([sys.executable, "-c", code], pass_fds=[900], capture_output=True, check=True).stdout
        os.close(900)
    pid, size = map(int, said.split())
    [event] = told(collector, name, pid)
    assert size == len(message)
    check(event, {"pid": str(pid), "tgid": str(pid), "ppid": str(os.getpid()), "fd": "900"})


@pytest.mark.parametrize("size", [12, 511, 512, 513, 1024, 4095, 4096])
def test_sizes(size: int, collector: Collector) -> None:
    """An answer of any size up to 4,096 bytes is told whole, 512 among them."""
    name, message = answer()
    if size < len(message):
        message = struct.pack("!6H", 1, 0x8180, 0, 0, 0, 0)
        name = "-1"
    else:
        rest = size - len(message)
        padding = b"\0" + struct.pack("!HHIH", 65280, 1, 0, rest - 11) + bytes(rest - 11)
        message = message[:10] + b"\0\1" + message[12:] + padding
    assert len(message) == size
    with udp(socket.AF_INET) as (server, client):
        server.sendto(message, client.getsockname())
        assert len(client.recv(8192)) == size
    event = told(collector, name)[-1]
    check(event, {"size": str(size), "malformed": "-1"})
    assert "packet_truncated" not in event


def test_a_larger_one(collector: Collector) -> None:
    """Of a larger answer the first 4,096 bytes are decoded; its true size is told, and that it was cut."""
    name, message = answer(500)
    with tcp(socket.AF_INET) as (server, client):
        server.sendall(struct.pack("!H", len(message)) + message)
        client.recv(len(message) + 2, socket.MSG_WAITALL)
    [event] = told(collector, name)
    check(event, {"size": str(len(message)), "answers_count": "500", "malformed": "-1", "packet_truncated": "1"})
    assert event["answers"].count("; ") == 63


def test_a_buffer_that_is_too_small(collector: Collector) -> None:
    """With MSG_TRUNC only what is in the caller's buffer is read, not the memory behind it."""
    name, message = answer(10)
    buffer = ctypes.create_string_buffer(b"\xee" * 4096, 4096)
    with udp(socket.AF_INET) as (server, client):
        server.sendto(message, client.getsockname())
        assert client.recv_into(memoryview(buffer)[:60], 60, socket.MSG_TRUNC) == len(message)
    [event] = told(collector, name)
    check(event, {"size": str(len(message)), "packet_truncated": "1", "malformed": "-1"})
    assert r"\238" not in event["answers"]


def test_many_at_once(collector: Collector) -> None:
    """recvmmsg(2) of 32 answers tells each once, in order."""
    made = [answer() for _ in range(32)]
    with udp(socket.AF_INET) as (server, client):
        for _name, message in made:
            server.sendto(message, client.getsockname())
        assert recvmmsg(client, 40) == 32
    events = caused_by(collector.sync(), os.getpid(), DNS)[-32:]
    assert [event["query"] for event in events] == [name for name, _message in made]


@pytest.mark.guest("dns", silent=True)
def test_what_is_no_event(family: int, collector: Collector) -> None:
    """Questions, what a server receives, peeks, other ports, files and empty packets are no events."""
    before = len(caused_by(collector.sync(), os.getpid(), DNS))
    name, message = answer()
    question = bytes(dnslib.DNSRecord.question(name).pack())
    with udp(family) as (server, client):
        client.send(question)
        server.recvfrom(4096)
        client.send(message)
        server.recvfrom(4096)
        for packet in (b"", b"x", b"xx", question):
            server.sendto(packet, client.getsockname())
            client.recvfrom(4096)
        server.sendto(message, client.getsockname())
        client.recv(4096, socket.MSG_PEEK)
        client.recvmsg(4096, 0, socket.MSG_PEEK)
    with udp(family, 0) as (server, client):
        server.sendto(message, client.getsockname())
        client.recv(4096)
        client.send(message)
        server.recvfrom(4096)
    read, write = os.pipe()
    os.write(write, message)
    os.read(read, 4096)
    os.close(read)
    os.close(write)
    first, second = socket.socketpair()
    with first, second:
        first.send(message)
        second.recv(4096)
    assert len(caused_by(collector.sync(), os.getpid(), DNS)) == before


def test_io_uring(programs: Programs, collector: Collector) -> None:
    """Answers received through io_uring, by RECV, RECVMSG and READ, are told."""
    made = [answer() for _ in range(3)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        with subprocess.Popen([programs("uring_recv"), "53"], stdout=subprocess.PIPE) as process:
            server.settimeout(5)
            try:
                for _name, message in made:
                    server.sendto(message, server.recvfrom(16)[1])
            except TimeoutError:
                assert process.poll() is not None
            said, _ = process.communicate(timeout=LIMIT_S)
    if process.returncode in {errno.ENOSYS, errno.EPERM}:
        pytest.skip(f"this kernel has no io_uring for us: {os.strerror(process.returncode)}")
    assert [int(line) for line in said.split()] == [len(message) for _name, message in made]
    events = caused_by(collector.sync(), process.pid, DNS)
    assert [(event["query"], event["fd"]) for event in events] == [(name, "-1") for name, _message in made]


def test_a_resolver(collector: Collector) -> None:
    """glibc's own resolver, asked for a name, is told with the answer that it got."""
    name, message = answer()
    code = """
import ctypes, os, sys
library = ctypes.CDLL("libresolv.so.2")
class State(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_ubyte * 568),)
print(os.getpid(), flush=True)
buffer = ctypes.create_string_buffer(4096)
query = getattr(library, "__res_query", None) or library.res_query
print(query(sys.argv[1].encode(), 1, 1, buffer, 4096))
"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host(socket.AF_INET), 53))
        shell = f"mount -t tmpfs none /mnt && echo nameserver {host(socket.AF_INET)} > /mnt/resolv.conf && "
        shell += 'mount --bind /mnt/resolv.conf /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", shell, "sh", sys.executable, "-c", code, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            server.settimeout(LIMIT_S)
            question, client = server.recvfrom(512)
            server.sendto(question[:2] + message[2:], client)
            said, _ = process.communicate(timeout=LIMIT_S)
    pid, length = map(int, said.split())
    assert length == len(message)
    [event] = told(collector, name, pid)
    check(event, {"pid": str(pid), "dip": host(socket.AF_INET), "dport": "53", "sport": str(client[1])})
    check(event, {"answers": f"{name} A 192.0.2.1", "rcode": "0"})


def test_malformed(family: int, collector: Collector) -> None:
    """A malformed answer is an event that says so, with what could be read, over UDP and TCP."""
    name, message = answer()
    broken = message[:6] + b"\0\7" + message[8:]
    for way in (udp, tcp):
        with way(family) as (server, client):
            if way is udp:
                server.sendto(broken, client.getsockname())
            else:
                server.sendall(struct.pack("!H", len(broken)) + broken)
            client.recv(4096)
    events = told(collector, name)
    assert [event["malformed"] for event in events] == ["cut short"] * 2
    assert {(event["answers"], event["answers_count"]) for event in events} == {(f"{name} A 192.0.2.1", "7")}


def test_hostile_answers(collector: Collector) -> None:
    """Of 500 answers of random bytes each with the response bit is one event, and the collector goes on."""
    draw = random.Random(601)
    before = len(caused_by(collector.sync(), os.getpid(), DNS))
    _name, sound = answer(3, text=200)
    expected = 0
    with udp(socket.AF_INET) as (server, client):
        for _ in range(500):
            message = bytearray(draw.choice([sound, draw.randbytes(draw.randint(0, 1500))]))
            for _ in range(draw.randint(0, 9)):
                if message:
                    message[draw.randrange(len(message))] = draw.randrange(256)
            server.sendto(message, client.getsockname())
            client.recv(4096)
            expected += len(message) > 2 and message[2] >= 128
    assert len(caused_by(collector.sync(), os.getpid(), DNS)) - before == expected


def test_hostile_calls(collector: Collector) -> None:
    """Message headers that point nowhere, absurd counts of pieces and random flags neither fail nor tell."""
    library = ctypes.CDLL(None, use_errno=True)
    draw = random.Random(53)
    name, message = answer()
    with udp(socket.AF_INET) as (server, client):
        client.setblocking(False)
        for _ in range(300):
            server.sendto(message, client.getsockname())
            buffer = ctypes.create_string_buffer(64)
            piece = Piece(draw.choice([ctypes.addressof(buffer), 1, 0]), draw.choice([0, 64, 1 << 40]))
            header = MessageHeader(
                draw.choice([0, 1, 1 << 46]), 28, ctypes.addressof(piece), draw.choice([0, 1, 1 << 20])
            )
            library.recvmsg(client.fileno(), ctypes.byref(header), draw.choice([0, 2, 0x20, 0x2000]))
            library.recvfrom(client.fileno(), 1, 512, 0, None, None)
    with udp(socket.AF_INET) as (server, client):
        server.sendto(message, client.getsockname())
        client.recv(4096)
    assert told(collector, name)[-1]["answers"] == f"{name} A 192.0.2.1"


def test_eight_at_once(collector: Collector) -> None:
    """Of 1,600 answers that eight threads receive each is told once."""

    def work(number: int) -> list[str]:
        names = []
        with own_server(number) as (server, client):
            for _ in range(200):
                name, message = answer()
                server.sendto(message, client.getsockname())
                client.recv(4096)
                names.append(name)
        return names

    before = len(caused_by(collector.sync(), os.getpid(), DNS))
    with ThreadPoolExecutor(8) as pool:
        expected = [name for names in pool.map(work, range(8)) for name in names]
    events = caused_by(collector.sync(), os.getpid(), DNS)[before:]
    assert sorted(event["query"] for event in events) == sorted(expected)


@contextmanager
def own_server(number: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """As `udp`, at an address of its own."""
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind((f"127.54.{number}.{os.getpid() % 250 + 1}", 53))
        client.connect(server.getsockname())
        yield server, client


def test_ecs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In ecs the answer is typed, under dns.*, with the addresses as a list."""
    name, message = answer(2)
    with Collector(tmp_path_factory.mktemp("ecs"), schema="ecs") as ecs:
        with udp(socket.AF_INET6) as (server, client):
            server.sendto(message, client.getsockname())
            client.recv(4096)
            port = client.getsockname()[1]
        [event] = caused_by(ecs.sync(), os.getpid(), DNS)
        ecs.stop().check()
    found: dict[str, Any] = event["dns"]
    assert found["question"] == {"name": name, "type": "A", "class": "IN"}
    assert found["answers"] == [
        {"name": name, "type": "A", "class": "IN", "ttl": 60, "data": f"192.0.2.{last}"} for last in (1, 2)
    ]
    assert (found["resolved_ip"], found["answers_count"]) == (["192.0.2.1", "192.0.2.2"], 2)
    assert (found["type"], found["op_code"], found["response_code"]) == ("answer", "QUERY", "NOERROR")
    assert event["source"] == {"ip": "::1", "port": port}
    assert event["destination"] == {"ip": "::1", "port": 53}
    assert event["network"] == {"type": "ipv6", "transport": "udp", "protocol": "dns"}
