# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector and its loader child say to each other."""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import Literal

import msgspec

from probes.errors import LoadError
from probes.filters import MapSettings
from probes.probe import Attach

_FDS_A_MESSAGE = 200
"""Below SCM_MAX_FD, which is 253."""


class Request(msgspec.Struct, frozen=True):
    """What the collector wants."""

    probes: tuple[str, ...]
    """In the order in which they are loaded."""

    ring_bytes: int
    """Size of the ring buffer: a power of two, at least a page."""

    settings: MapSettings
    attach: Attach = "best"
    cache: str = ""
    """Folder of compiled probes; empty: none."""

    kinds: tuple[str, ...] = ()
    """Every probe there is, by the order of their counters (slots)."""

    histogram: bool = False
    """Whether each program's durations are counted (HL_HISTOGRAM); for benchmarks."""

    first: tuple[str, ...] = ()
    """Probes without which collecting does not begin."""

    retry: bool = False
    """Whether to look anew for what was not the best in this boot."""

    compile_only: bool = False
    """Fill the cache and load nothing."""


class HookReport(msgspec.Struct, frozen=True):
    """One hook: attached, or the reason why not."""

    at: str
    sees: str
    missing: str = ""


class FormReport(msgspec.Struct, frozen=True):
    """A better form of a probe that was not taken, and why."""

    name: str
    reason: str


class ProbeReport(msgspec.Struct, frozen=True):
    """One probe: its hooks, or the reason why it does not run."""

    name: str
    form: str = ""
    """The form that was taken; empty where none was."""

    hooks: tuple[HookReport, ...] = ()
    passed_over: tuple[FormReport, ...] = ()
    error: str = ""
    log: str = ""
    """The end of the compiler's or the verifier's log."""

    compiled: bool = False
    """Whether it had to be compiled."""

    timed: tuple[str, ...] = ()
    """Its programs whose durations are counted, by their numbers; see `probes.kernel.histogram`."""


class Part(msgspec.Struct, frozen=True):
    """What became of one probe, or of all; the descriptors follow: maps, programs, links."""

    report: ProbeReport | None = None
    maps: tuple[str, ...] = ()
    """Maps that are new; those of one probe alone as PROBE/MAP. Open tail maps keep their programs."""

    programs: tuple[str, ...] = ()
    """PROBE/PROGRAM; of fentry and fexit programs, PROBE/PROGRAM FUNCTION."""

    links: int = 0
    done: Literal["", "first", "all"] = ""
    """Whether the first probes, or all, were told of with this."""

    error: str = ""
    """Why nothing at all can be loaded."""

    log: str = ""


def send(channel: socket.socket, part: Part, fds: list[int]) -> None:
    """Send `part` as one line, then `fds` in as many messages as they need."""
    channel.sendall(msgspec.json.encode(part) + b"\n")
    for start in range(0, len(fds), _FDS_A_MESSAGE):
        socket.send_fds(channel, [b"+"], fds[start : start + _FDS_A_MESSAGE])


def receive(channel: socket.socket) -> tuple[Part, list[int]]:
    """What `send` sent. The caller owns the descriptors, which no child inherits.

    Raises:
        LoadError: the other side went away first.
    """
    text = b""
    # MSG_PEEK finds the line's end, so that no byte of a descriptor message is read with it.
    while not text.endswith(b"\n"):
        seen = channel.recv(65536, socket.MSG_PEEK)
        if not seen:
            raise LoadError("the loader ended without an answer")
        text += channel.recv(seen.find(b"\n") + 1 or len(seen))
    part = msgspec.json.decode(text, type=Part)
    wanted = len(part.maps) + len(part.programs) + part.links
    fds: list[int] = []
    try:
        while len(fds) < wanted:
            fds += _receive_fds(channel)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return part, fds


def _receive_fds(channel: socket.socket) -> list[int]:
    # Not socket.recv_fds, which drops its flags (Python 3.11): the descriptors would be inheritable.
    room = socket.CMSG_LEN(_FDS_A_MESSAGE * struct.calcsize("i"))
    data, controls, _flags, _address = channel.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise LoadError("the loader ended before it had handed over every descriptor")
    fds = array.array("i")
    for level, kind, content in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)
