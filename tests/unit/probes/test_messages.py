# SPDX-License-Identifier: GPL-2.0-or-later
"""What the loader child hands over, through a real pair of sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from probes.errors import LoadError
from probes.kernel.messages import HookReport, Part, ProbeReport, receive, send

REPORT = ProbeReport("execve", "kprobe", (HookReport("tracepoint:a", "sees ä\n", "no"),), log="line\nline")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The collector's and the child's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def files() -> Iterator[list[int]]:
    """450 descriptors, more than two messages hold: each of a file whose offset is its number."""
    fds = [os.memfd_create("a map") for _ in range(450)]
    for number, fd in enumerate(fds):
        os.lseek(fd, number, os.SEEK_SET)
    yield fds
    for fd in fds:
        os.close(fd)


MAPS = ("hl_events", "hl_counters", "execve/hl_tails")
PROGRAMS = ("execve/execve_succeeded", "execve/execve_succeeded_paths")


def part_for(files: list[int]) -> Part:
    return Part(REPORT, MAPS, PROGRAMS, links=len(files) - len(MAPS) - len(PROGRAMS), done="first")


def numbers_of(fds: list[int]) -> list[int]:
    """The numbers of received descriptors, which are closed."""
    inheritable = [fd for fd in fds if os.get_inheritable(fd)]
    numbers = [os.lseek(fd, 0, os.SEEK_CUR) for fd in fds]
    for fd in fds:
        os.close(fd)
    assert not inheritable
    return numbers


def open_fds() -> set[int]:
    """The descriptors of this process; the folder's own is gone by now."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.mark.parametrize("count", [len(MAPS) + 2, 200, 201, 400, 450])
def test_descriptors_arrive_in_order(ends: tuple[socket.socket, socket.socket], files: list[int], count: int) -> None:
    """Every descriptor arrives, in order, closed to children, however many messages they take."""
    ours, theirs = ends
    part = part_for(files[:count])
    sender = Thread(target=send, args=(theirs, part, files[:count]))
    sender.start()
    received, fds = receive(ours)
    sender.join()
    assert received == part
    assert numbers_of(fds) == list(range(count))


def test_an_error_comes_without_descriptors(ends: tuple[socket.socket, socket.socket]) -> None:
    """An answer that is an error is read without waiting for descriptors."""
    ours, theirs = ends
    part = Part(error="the loader failed", log="x\n" * 50_000)
    sender = Thread(target=send, args=(theirs, part, []))
    sender.start()
    assert receive(ours) == (part, [])
    sender.join()


def test_a_child_that_dies_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    """A child that ends without an answer is an error that says so."""
    ours, theirs = ends
    theirs.close()
    with pytest.raises(LoadError, match="ended without an answer"):
        receive(ours)


def test_a_child_that_dies_in_its_answer(ends: tuple[socket.socket, socket.socket]) -> None:
    """Half an answer is no answer."""
    ours, theirs = ends
    theirs.sendall(b'{"probes":')
    theirs.close()
    with pytest.raises(LoadError, match="ended without an answer"):
        receive(ours)


def test_a_child_that_dies_between_descriptors(ends: tuple[socket.socket, socket.socket], files: list[int]) -> None:
    """An answer that lacks descriptors is an error, and those that came do not stay open."""
    ours, theirs = ends
    send(theirs, part_for(files), files[:210])
    theirs.close()
    before = open_fds()
    with pytest.raises(LoadError, match="before it had handed over every descriptor"):
        receive(ours)
    left = open_fds() - before
    for fd in left:
        os.close(fd)
    assert not left


def test_parts_follow_each_other(ends: tuple[socket.socket, socket.socket], files: list[int]) -> None:
    """Parts with and without descriptors that were all sent before the first is read arrive one by one."""
    ours, theirs = ends
    parts = [
        (part_for(files[:7]), files[:7]),
        (Part(), []),
        (Part(ProbeReport("a")), []),
        (part_for(files[:5]), files[5:10]),
    ]
    for part, fds in [*parts, (Part(done="all"), [])]:
        send(theirs, part, fds)
    theirs.close()
    for part, fds in parts:
        received, mine = receive(ours)
        assert received == part
        assert numbers_of(mine) == [files.index(fd) for fd in fds]
    assert receive(ours) == (Part(done="all"), [])
