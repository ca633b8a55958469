# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector and its loader child say to each other."""

from __future__ import annotations

import array
import os
import socket
import struct

import msgspec

from probes.errors import LoadError
from probes.filters import MapSettings
from probes.probe import Attach

MAPS = (
    "hl_events",
    "hl_counters",
    "hl_settings",
    "hl_excluded_exe",
    "hl_excluded_uid",
    "hl_lane_counters",
    "hl_raw_tails",
    "hl_tails",
    "hl_kprobe_tails",
)
"""Maps whose descriptors come first, in this order. Open tail maps keep their programs."""

_FDS_A_MESSAGE = 200
"""Below SCM_MAX_FD, which is 253."""


class Request(msgspec.Struct, frozen=True):
    """What the collector wants."""

    probes: tuple[str, ...]
    ring_bytes: int
    """Size of the ring buffer: a power of two, at least a page."""

    settings: MapSettings
    attach: Attach = "best"


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
    """The end of the verifier's log."""


class Answer(msgspec.Struct, frozen=True):
    """What became of a request; the descriptors follow: maps, programs, extra maps, links."""

    probes: tuple[ProbeReport, ...]
    programs: tuple[str, ...] = ()
    extra_maps: int = 0
    """Maps that are kept open for the programs that call through them."""

    links: int = 0
    error: str = ""
    log: str = ""


def send(channel: socket.socket, answer: Answer, fds: list[int]) -> None:
    """Send `answer` as one line, then `fds` in as many messages as they need."""
    channel.sendall(msgspec.json.encode(answer) + b"\n")
    for start in range(0, len(fds), _FDS_A_MESSAGE):
        socket.send_fds(channel, [b"+"], fds[start : start + _FDS_A_MESSAGE])


def receive(channel: socket.socket) -> tuple[Answer, list[int]]:
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
    answer = msgspec.json.decode(text, type=Answer)
    wanted = len(MAPS) + len(answer.programs) + answer.extra_maps + answer.links if answer.programs else 0
    fds: list[int] = []
    try:
        while len(fds) < wanted:
            fds += _receive_fds(channel)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return answer, fds


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
