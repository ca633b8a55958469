# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that programs look up, with the C library of the host and with others that appear while it runs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector, Event, files_watched
from tests.live.conftest import Programs
from tests.live.containers import inside, musl_root
from tests.live.nameserver import ADDRESS, Nameserver
from tests.live.test_surroundings import PRIVATE_MOUNTS
from tests.live.tools import LIMIT_S, until
from tests.live.views import RESOLVE, caused_by

Asked = tuple[int, str | bytes, str]
"""Family, host, service."""


class Found(NamedTuple):
    """What a thread of `lookup` was told."""

    tid: int
    result: int
    addresses: list[str]


class Lookup:
    """The program `lookup`, started; it asks when it is told to."""

    def __init__(self, command: Sequence[str | bytes | Path], asked: Sequence[Asked]) -> None:
        arguments = [each if isinstance(each, bytes) else str(each) for one in asked for each in one]
        self.process = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.read(1) == b"."

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self) -> None:
        """Ask now."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def found(self) -> list[Found]:
        """What each thread was told."""
        out, _ = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0
        found = []
        for line in out.decode().splitlines():
            tid, result, *addresses = line.split()
            found.append(Found(int(tid), int(result), list(dict.fromkeys(addresses))))
        return found

    def go(self) -> list[Found]:
        self.begin()
        return self.found()


@pytest.fixture(scope="module")
def collector(collector: Collector) -> Collector:
    """One that has found the files of this host."""
    until(lambda: files_watched(collector).count("libc") >= 2, "the C libraries")
    return collector


@pytest.fixture(params=["glibc", "musl"])
def lookup(request: pytest.FixtureRequest, programs: Programs) -> Path:
    """The program, with either C library."""
    return programs.dynamic("lookup", "gcc" if request.param == "glibc" else "musl-gcc")


def told(collector: Collector, pid: int) -> list[Event]:
    return caused_by(collector.sync(), pid, RESOLVE)


def addresses(event: Event) -> list[str]:
    return [] if event["resolved_ip"] == "-1" else event["resolved_ip"].split(",")


def check(event: Event, asked: Asked, found: Found) -> None:
    """Every field of its own is as the program asked, and as it was told."""
    family, host, service = asked
    assert int(event["pid"]) == found.tid
    assert int(event["res"]) == found.result
    assert addresses(event) == found.addresses
    assert int(event["asked_family"]) == family
    assert to_bytes(event["host"]) == (host if isinstance(host, bytes) else host.encode())
    assert event["service"] == service
    assert not any(key.endswith("_truncated") for key in event)


@contextlib.contextmanager
def own_names(folder: Path, command: Sequence[str | Path]) -> Iterator[list[str | Path]]:
    """`command` in a mount namespace whose resolv.conf names the `Nameserver`."""
    (folder / "resolv.conf").write_text(f"nameserver {ADDRESS}\noptions timeout:20 attempts:1\n")
    (folder / "nsswitch.conf").write_text("hosts: dns\n")
    mounts = "; ".join(f"mount --bind {folder}/{name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf"))
    yield [*PRIVATE_MOUNTS, f'{mounts}; exec "$@"', "sh", *command]


@pytest.mark.guest("resolve")
@pytest.mark.parametrize(
    "asked", [(0, "127.0.0.9", "80"), (0, "2001:db8::7", "443"), (10, "fe80::1", "1"), (2, "192.0.2.7", "9")]
)
def test_one_call_one_event(asked: Asked, lookup: Path, collector: Collector) -> None:
    """One getaddrinfo of glibc or musl is one event: host, service, family, all addresses, result 0, thread."""
    process = Lookup([lookup], [asked])
    [found] = process.go()
    assert found.addresses
    [event] = told(collector, process.pid)
    check(event, asked, found)
    assert (event["tgid"], event["exe"], event["comm"]) == (str(process.pid), str(lookup), lookup.name[:15])


@pytest.mark.guest("resolve")
def test_failures(lookup: Path, collector: Collector) -> None:
    """A call that fails tells its EAI code, as the caller got it, and no address."""
    for asked in ((10, "127.0.0.1", "80"), (0, "127.0.0.1", "no-such-service"), (99, "127.0.0.1", "80")):
        process = Lookup([lookup], [asked])
        [found] = process.go()
        assert found.result < 0
        [event] = told(collector, process.pid)
        check(event, asked, found)


@pytest.mark.guest("resolve")
def test_calls_at_once(lookup: Path, collector: Collector) -> None:
    """Of calls by several threads and processes at once, which preempt each other, each is told as it was."""
    for _ in range(8):
        processes = [
            Lookup([lookup], [(0, f"127.{number}.0.{port}", str(port)) for port in range(1, 9)]) for number in (1, 2)
        ]
        for process in processes:
            process.begin()
        for process in processes:
            found = {each.tid: each for each in process.found()}
            events = told(collector, process.pid)
            assert len(events) == len(found) == 8
            for event in events:
                [address] = found[int(event["pid"])].addresses
                check(event, (0, address, address.rpartition(".")[2]), found[int(event["pid"])])


@pytest.mark.guest("resolve", silent=True)
def test_other_lookups(collector: Collector) -> None:
    """A service and a protocol that are looked up, and an address that is read, are no event."""
    code = "import socket; socket.getservbyname('domain'); socket.getprotobyname('tcp'); socket.inet_aton('127.0.0.1')"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert process.wait(LIMIT_S) == 0
    assert told(collector, process.pid) == []


def test_no_host(lookup: Path, collector: Collector) -> None:
    """Without a host the loopback addresses are told, and the host as unknown."""
    process = Lookup([lookup], [(0, "-", "80")])
    [found] = process.go()
    [event] = told(collector, process.pid)
    assert (event["host"], sorted(addresses(event))) == ("-1", sorted(found.addresses))
    assert sorted(found.addresses) == ["127.0.0.1", "::1"]


def test_all_results(lookup: Path, collector: Collector, tmp_path: Path) -> None:
    """Every address that a name has, v4 and v6, is told once, in the caller's order; above 32 it is told as cut."""
    many = [f"192.0.2.{number}" for number in range(1, 15)] + [f"2001:db8::{number:x}" for number in range(1, 15)]
    too_many = [f"198.51.100.{number}" for number in range(1, 25)] + [
        f"2001:db8:1::{number:x}" for number in range(1, 25)
    ]
    zone = {"many.example": many, "toomany.example": too_many}
    with Nameserver(zone), own_names(tmp_path, [lookup]) as command:
        process = Lookup(command, [(0, "many.example", "80")])
        [found] = process.go()
        assert sorted(found.addresses) == sorted(many)
        [event] = told(collector, process.pid)
        check(event, (0, "many.example", "80"), found)
        process = Lookup(command, [(0, "toomany.example", "80")])
        [found] = process.go()
        [event] = told(collector, process.pid)
        assert event["resolved_ip_truncated"] == "1"
        assert addresses(event) == found.addresses[:32]


def test_two_calls_at_once(lookup: Path, collector: Collector, tmp_path: Path) -> None:
    """Of two calls under way at the same time in one process, each tells its own host and its own addresses."""
    zone = {"first.example": ["192.0.2.1", "2001:db8::1"], "second.example": ["192.0.2.2", "2001:db8::2"]}
    asked: list[Asked] = [(0, "first.example", "1"), (0, "second.example", "2")]
    with Nameserver(zone, frozenset(zone)), own_names(tmp_path, [lookup]) as command:
        process = Lookup(command, asked)
        by_address = {frozenset(found.addresses): found for found in process.go()}
    events = {event["host"]: event for event in told(collector, process.pid)}
    assert len(events) == 2
    for each in asked:
        host = str(each[1])
        check(events[host], each, by_address[frozenset(zone[host])])
    assert len({event["pid"] for event in events.values()}) == 2


def test_a_crowd(lookup: Path, collector: Collector) -> None:
    """Of 60 threads that ask at once, none gets another's answer, and none is lost."""
    asked: list[Asked] = [(0, f"10.0.{number}.1", str(number)) for number in range(1, 61)]
    process = Lookup([lookup], asked)
    by_address = {found.addresses[0]: found for found in process.go()}
    events = told(collector, process.pid)
    assert len(events) == 60
    for event in events:
        host = event["host"]
        check(event, (0, host, host.split(".")[2]), by_address[host])


@pytest.mark.parametrize(
    "host",
    [b'"},{"data_type":"59', b"a\nb\x1b[31m", b"\xff\xfe\x80", "ü.example".encode(), b"x" * 1023, b" "],
    ids=["json", "control", "bytes", "utf-8", "long", "blank"],
)
def test_hostile_names(host: bytes, lookup: Path, collector: Collector) -> None:
    """Whatever bytes a program asks for are told as they are, and shift no field."""
    process = Lookup([lookup], [(0, host, "1")])
    [found] = process.go()
    [event] = told(collector, process.pid)
    check(event, (0, host, "1"), found)


def test_a_name_that_is_too_long(lookup: Path, collector: Collector) -> None:
    """A name of over 1,024 bytes is told up to there, and as cut."""
    process = Lookup([lookup], [(0, "y" * 3000, "1")])
    process.go()
    [event] = told(collector, process.pid)
    assert (event["host"], event["host_truncated"], event["service"]) == ("y" * 1024, "1", "1")


def test_a_library_that_appears(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """In a container that begins while the collector runs, with a musl of its own, a call is told as its own."""
    linker = f"/lib/ld-musl-hookline{os.getpid()}.so.1"
    root = musl_root(tmp_path / "root", programs, linker)
    process = Lookup(inside(root, "/bin/lookup"), [(0, "2001:db8::b0", "853")])
    until(lambda: linker in {line.get("path") for line in collector.log()}, "the library")
    [found] = process.go()
    [event] = [each for each in collector.sync() if each["data_type"] == "803" and each["service"] == "853"]
    check(event, (0, "2001:db8::b0", "853"), found._replace(tid=int(event["pid"])))
    assert (event["nodename"], event["exe"]) == ("box1", "/bin/lookup")
    assert int(event["ppid"]) == process.pid
