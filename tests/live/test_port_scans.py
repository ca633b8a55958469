# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets to closed ports."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from tests.live.collector import Collector, Event
from tests.live.tools import until
from tests.live.views import PORT_SCAN

SOURCE = f"127.61.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""An address of loopback that no other test scans from."""


def scans(collector: Collector, source: str) -> list[Event]:
    """What is told of that source."""
    found = [event for event in collector.sync() if event["data_type"] == str(PORT_SCAN)]
    return [event for event in found if event["sip"] == source]


def closed(host: str) -> int:
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as taken:
        taken.bind((host, 0))
        return int(taken.getsockname()[1])


def probe(source: str, host: str, port: int) -> int:
    """Try to connect, which is refused; gives the port that it came from."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
        client.bind((source, 0))
        assert client.connect_ex((host, port)) == errno.ECONNREFUSED
        return int(client.getsockname()[1])


@pytest.mark.guest("port_scan", every=True)
@pytest.mark.parametrize(("source", "host"), [(SOURCE, "127.0.0.1"), ("::1", "::1")], ids=["v4", "v6"])
def test_a_closed_port(source: str, host: str, collector: Collector) -> None:
    """A SYN to a closed port is told once, with both ends, ports in host order, and no process."""
    port = closed(host)
    source_port = probe(source, host, port)
    [event] = [event for event in scans(collector, source) if event["dport"] == str(port)]
    assert (event["dip"], event["sport"], event["sa_family"]) == (host, str(source_port), "10" if ":" in host else "2")
    assert int(event["flags"]) & 0x17 == 2
    assert (event["tgid"], event["pid"], event["comm"], event["user"]) == ("0", "0", "-1", "-1")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def send_raw(source: str, host: str, port: int, flags: int) -> None:
    """One TCP packet with just these flags."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        packet = struct.pack("!HHIIBBHHH", 4242, port, 1, 0, 5 << 4, flags, 1024, 0, 0)
        pseudo = socket.inet_aton(source) + socket.inet_aton(host) + struct.pack("!BBH", 0, 6, len(packet))
        packet = packet[:16] + struct.pack("!H", checksum(pseudo + packet)) + packet[18:]
        raw.sendto(packet, (host, 0))


@pytest.mark.guest("port_scan")
def test_stealthy_scans(collector: Collector) -> None:
    """FIN, NULL and Xmas packets are told with their flags; ACK and RST, which end no scan of these, are not."""
    source = SOURCE.replace("127.61", "127.62")
    wanted = {1: closed("127.0.0.1"), 0: closed("127.0.0.1"), 0x29: closed("127.0.0.1")}
    for flags, port in wanted.items():
        send_raw(source, "127.0.0.1", port, flags)
    for flags in (0x10, 0x04, 0x12, 0x11):
        send_raw(source, "127.0.0.1", closed("127.0.0.1"), flags)
    told = {(int(event["flags"]), int(event["dport"])) for event in scans(collector, source)}
    assert told == set(wanted.items())
    assert all(event["sport"] == "4242" for event in scans(collector, source))


@pytest.mark.guest("port_scan", silent=True)
def test_open_ports_are_no_scans(collector: Collector) -> None:
    """A connection to an open port, its end, and UDP to a closed port are no events."""
    source = SOURCE.replace("127.61", "127.63")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.bind((source, 0))
        client.connect(server.getsockname())
        server.accept()[0].close()
    with socket.socket(type=socket.SOCK_DGRAM) as datagram:
        datagram.bind((source, 0))
        datagram.sendto(b"x", ("127.0.0.1", closed("127.0.0.1")))
    assert not scans(collector, source)


def test_a_whole_scan_is_bounded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of a scan of 4,000 ports, twice, at most 256 are told; all others are counted as filtered."""
    source = SOURCE.replace("127.61", "127.64")
    tables = {"collector": {"probes": ["port_scan", "execve"]}}
    with Collector(tmp_path_factory.mktemp("scan"), tables) as collector:
        sent = 0
        for _ in range(2):
            for port in range(40_000, 44_000):
                with socket.socket() as client:
                    client.bind((source, 0))
                    sent += client.connect_ex(("127.77.1.1", port)) == errno.ECONNREFUSED
        assert sent > 7_900
        told = scans(collector, source)
        outcome = collector.stop()
    outcome.check()
    assert 0 < len(told) <= 256
    assert len({event["dport"] for event in told}) == len(told)
    assert outcome.kind("port_scan")["filtered"] >= sent - len(told)


def test_what_was_left_out_is_told(collector: Collector) -> None:
    """The same port again is left out, and the source's next event says how many were."""
    source = SOURCE.replace("127.61", "127.65")
    first, second = closed("127.0.0.1"), closed("127.0.0.1")
    for _ in range(5):
        probe(source, "127.0.0.1", first)
    probe(source, "127.0.0.1", second)
    told = until(lambda: scans(collector, source), "the scan")
    assert [(event["dport"], event["left_out"]) for event in told] == [(str(first), "0"), (str(second), "4")]
