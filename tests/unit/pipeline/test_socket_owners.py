# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that holds a socket, and what it runs."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from pipeline.enrich.process_tree import ProcessTree
from pipeline.enrich.socket_owners import SocketOwners
from probes.file.create_file import CreateFile
from probes.process.execve import Execve
from probes.process.fork import Fork
from tests.unit.pipeline.samples import lines, made

SHELL, PYTHON = b"s" * 40, b"p" * 40


def owner(pid: int, *, family: int = socket.AF_INET) -> bytes:
    """The tail of a socket that `pid` holds."""
    ends = [socket.inet_pton(family, text).ljust(16, b"\0") for text in ADDRESSES[family]]
    return struct.pack("<4HI16s16s", family, 1, 40_000, 443, pid, *ends)


ADDRESSES: dict[int, tuple[str, str]] = {
    socket.AF_INET: ("192.0.2.1", "198.51.100.9"),
    socket.AF_INET6: ("2001:db8::1", "2001:db8::9"),
}


def tree() -> ProcessTree:
    return ProcessTree(depth=12, max_processes=1024, ask_proc=False)


def md5(file: bytes) -> str:
    return {PYTHON: "0" * 32}.get(file, "")


def ran(pid: int, exe: bytes, file: bytes, *, ppid: int = 1, start: int = 5, tail: bytes = b"") -> Execve:
    return made(
        Execve,
        pid=pid,
        tgid=pid,
        ppid=ppid,
        start_time=start,
        parent_start_time=5,
        exe_path=exe,
        exe_file=file,
        socket=tail,
    )


async def enriched(known: ProcessTree, *events: Execve | CreateFile) -> list[tuple[str, str]]:
    await known.enrich(list(events))
    await SocketOwners(known, md5).enrich(list(events))
    return [(event.socket_process_exe, event.socket_process_exe_md5) for event in events]


async def test_who_holds_it() -> None:
    """The executable is that of the process itself, of an ancestor, or of a neighbour; of a stranger it is unknown."""
    known = tree()
    told = await enriched(
        known,
        ran(10, b"/usr/bin/python3", PYTHON, tail=owner(10)),
        ran(11, b"/bin/sh", SHELL, ppid=10, tail=owner(10)),
        ran(12, b"/bin/id", SHELL, ppid=11, tail=owner(10)),
        ran(13, b"/bin/id", SHELL, tail=owner(12)),
        ran(14, b"/bin/id", SHELL, tail=owner(99)),
        ran(15, b"/bin/id", SHELL),
        made(CreateFile, tgid=11, start_time=5, exe_file=SHELL, socket=owner(10)),
    )
    python, nothing = ("/usr/bin/python3", "0" * 32), ("", "")
    assert told == [python, python, python, ("/bin/id", ""), nothing, nothing, python]


async def test_a_reused_pid() -> None:
    """Where an ancestor's id has gone to another process, the ancestor counts, not the other."""
    known = tree()
    await enriched(known, ran(10, b"/usr/bin/python3", PYTHON))
    await known.enrich([made(Fork, tgid=10, start_time=5, child_tgid=11, child_start_time=5, exe_file=PYTHON)])
    await enriched(known, ran(10, b"/bin/other", SHELL, start=9))
    told = await enriched(known, ran(11, b"/bin/sh", SHELL, ppid=10, tail=owner(10)))
    assert told == [("/usr/bin/python3", "0" * 32)]


@pytest.mark.parametrize("family", ADDRESSES)
async def test_what_is_told(family: int) -> None:
    """Both schemas tell both ends; without a socket, smith says -1 and ecs nothing."""
    events = [ran(10, b"/bin/sh", PYTHON, tail=owner(10, family=family)), ran(10, b"/bin/sh", PYTHON)]
    await enriched(tree(), *events)
    local, remote = (text.encode() for text in ADDRESSES[family])
    smith, without = lines(list(events), "smith")
    assert b'"dip":"%s","dport":"443","sip":"%s","sport":"40000","sa_family":"%d"' % (remote, local, family) in smith
    assert b'"socket_process_pid":"10"' in smith
    assert b'"socket_process_exe":"/bin/sh","socket_process_exe_md5":"00000000' in smith
    assert b'"dip":"-1","dport":"-1","sip":"-1","sport":"-1","sa_family":"-1"' in without
    assert b'"socket_process_exe":"-1","socket_process_exe_md5":"-1"' in without
    ecs, without = lines(list(events), "ecs")
    told = json.loads(ecs)
    assert told["destination"] == {"ip": remote.decode(), "port": 443}
    owner_told = {"pid": 10, "executable": "/bin/sh", "hash": {"md5": "0" * 32}}
    assert told["hookline"]["socket"] == {"process": owner_told}
    assert b"destination" not in without
    assert b'"socket"' not in without
