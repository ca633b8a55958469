# SPDX-License-Identifier: GPL-2.0-or-later
"""The smith schema: what a consumer of AgentSmith-HIDS reads unchanged."""

from __future__ import annotations

import json
import socket
import stat

import pytest
from hypothesis import given

from pipeline.gap import Gap
from probes.event import HostEvent, ProcessEvent
from probes.file.create_file import CreateFile
from probes.file.rename import Rename
from probes.network.connect import Connect
from probes.process.execve import Execve
from probes.process.exit import Exit
from probes.process.fork import Fork
from probes.process.ptrace import Ptrace
from probes.text import to_text
from tests.unit.pipeline.samples import RUN, SECOND, host_events, lines, made

COMMON = {
    "uid",
    "data_type",
    "exe",
    "pid",
    "ppid",
    "pgid",
    "tgid",
    "sid",
    "comm",
    "nodename",
    "sessionid",
} | {
    "user",
    "time",
    "local_ip",
    "hostname",
    "exe_md5",
}
KEYS: dict[type[ProcessEvent], set[str]] = {
    Execve: {
        "run_path",
        "argv",
        "stdin",
        "stdout",
        "pid_tree",
        "tty_name",
        "SSH_CONNECTION",
        "LD_PRELOAD",
        "res",
    },
    Connect: {"sa_family", "fd", "dport", "dip", "sip", "sport", "res"},
    CreateFile: {"file_path"},
    Exit: {"exit_code"},
    Fork: {"start_time", "cmdline"},
}
"""The seed's names, of the examples in its documentation, as far as probes of today fill them."""


def told(event: HostEvent, boot_offset: int = 0) -> dict[str, str]:
    """The event as a consumer reads it."""
    decoded: dict[str, str] = json.loads(lines([event], "smith", boot_offset=boot_offset)[0])
    return decoded


@given(host_events())
def test_flat_strings(event: HostEvent) -> None:
    """The object is flat, and every value is a string."""
    assert all(isinstance(value, str) for value in told(event).values())


@pytest.mark.parametrize("event", KEYS)
def test_the_seeds_names(event: type[ProcessEvent]) -> None:
    """Every name that the seed documents for this kind is there, whatever the event holds."""
    assert COMMON | KEYS[event] <= set(told(made(event)))


def test_unknown_is_minus_one() -> None:
    """What is not known, or is not there, is "-1"."""
    event = told(made(Execve))
    for key in (
        "exe",
        "exe_md5",
        "user",
        "pid_tree",
        "tty_name",
        "stdin",
        "LD_PRELOAD",
        "SSH_CONNECTION",
        "run_path",
    ):
        assert event[key] == "-1", key
    connect = told(made(Connect, family=socket.AF_UNIX, path=b"/run/s"))
    assert (connect["dip"], connect["sip"], connect["path"]) == ("-1", "-1", "/run/s")


def test_an_execution() -> None:
    """An execution reads as one of the seed's does."""
    event = made(
        Execve,
        pid=35861,
        tgid=35861,
        ppid=35711,
        uid=0,
        sessionid=-1,
        time_ns=5 * SECOND + 143_999_999,
        comm=b"growfiles",
        tty=b"pts1",
        nodename=b"test",
        argv=b"growfiles\0-W\0gf26\0",
        run_path=b"/opt/ltp",
        stdin=b"/dev/pts/1",
        stdout_mode=stat.S_IFIFO,
        stdout_inode=77,
        ssh_connection=b"192.0.2.1 61726 192.0.2.2 22",
        cpu=1,
        sequence=9,
    )
    event.exe, event.user, event.exe_md5 = b"/opt/growfiles", "root", "01272152d4901fd3c2efacab5c0e38e5"
    event.pid_tree = "1(systemd)->35861(growfiles)"
    assert (
        told(event, boot_offset=1_579_575_424 * SECOND).items()
        >= {
            "uid": "0",
            "data_type": "59",
            "exe": "/opt/growfiles",
            "run_path": "/opt/ltp",
            "argv": "growfiles -W gf26 ",
            "pid": "35861",
            "ppid": "35711",
            "comm": "growfiles",
            "nodename": "test",
            "stdin": "/dev/pts/1",
            "stdout": "pipe:[77]",
            "sessionid": "-1",
            "tty_name": "pts1",
            "SSH_CONNECTION": "192.0.2.1 61726 192.0.2.2 22",
            "user": "root",
            "pid_tree": "1(systemd)->35861(growfiles)",
            "time": "1579575429143",
            "local_ip": "192.0.2.7",
            "hostname": "box",
            "exe_md5": "01272152d4901fd3c2efacab5c0e38e5",
            "res": "0",
            "event_id": f"{RUN}-59-1-9",
            "entity_id": "b00t-35861-0",
        }.items()
    )


def test_connections() -> None:
    """Addresses are text, ports and family numbers; an IPv4 peer has family 2."""
    four = made(Connect, family=2, address=bytes([180, 101, 49, 11]), port=1025, result=-115, fd=4)
    assert told(four).items() >= {
        "data_type": "42", "sa_family": "2", "dip": "180.101.49.11", "dport": "1025", "res": "-115", "fd": "4"
    }.items()  # fmt: skip
    six = made(Connect, family=10, source=bytes(15) + b"\1", source_port=22)
    assert told(six).items() >= {"sa_family": "10", "sip": "::1", "sport": "22", "dip": "::"}.items()


def test_the_seeds_ptrace() -> None:
    """Addresses and words are 16 hexadecimal digits, as in the example of AgentSmith-HIDS; the word is text too."""
    poke = made(Ptrace, request=4, target_pid=7402, addr=0x7FFE13011EE6, word=0x612D, data=b"-a" + bytes(6))
    assert told(poke).items() >= {
        "data_type": "101", "ptrace_request": "4", "target_pid": "7402", "addr": "00007ffe13011ee6", "data": "-a"
    }.items()  # fmt: skip
    assert told(poke)["word"] == "000000000000612d"


def test_names_of_two_parts() -> None:
    """A path whose end the caller named is told as one; of nothing it is unknown."""
    event = made(Rename, old_name=b"/home/me./a", old_name_walked=8, new_name=b"", new_name_walked=0)
    assert (told(event)["old_name"], told(event)["new_name"]) == ("/home/me/a", "-1")


def test_argv_keeps_hostile_bytes() -> None:
    """Arguments are joined by spaces; what is not UTF-8 in them is still there."""
    argv = b'sh\0-c\0\xff\n"\0'
    assert told(made(Execve, argv=argv))["argv"] == to_text(argv.replace(b"\0", b" "))


def test_a_gap() -> None:
    """A gap names the kind, the CPU, the first and the last missing number, and the cause."""
    gap = Gap(flags=0, cpu=3, sequence=1, time_ns=0, lost_kind=59, lost_cpu=3, first=5, last=8, cause="kernel_ring")
    assert told(gap).items() >= {
        "data_type": "900", "kind": "59", "cpu": "3", "first": "5", "last": "8", "cause": "kernel_ring"
    }.items()  # fmt: skip
