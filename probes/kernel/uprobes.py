# SPDX-License-Identifier: GPL-2.0-or-later
"""User probes: programs on functions in files, attached while the collector runs.

A uprobe belongs to a file, not to a process: attached once, it works in every process that maps the file, now and
later, in whatever container. `Uprobes.search` finds files and attaches to them by way of the finder child
(`probes.kernel.finder`); a search of all processes also lets go of files that nobody has any more.
"""

from __future__ import annotations

import array
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from probes.identity import FileId
from probes.kernel.detach import leave_to_another
from probes.kernel.finder import Attached, Found, Message, Opening, Search

_PACKAGES = Path(__file__).parents[2]

_PATIENCE_S = 20.0
"""How long a finder may be at one thing."""

_SEARCH_S = 60.0
"""How long it may take altogether."""

_QUIET_S = 10.0
"""Between two lines on files that cannot be watched: anybody can make such files."""

_MOST_REFUSED = 1024
_MOST_AVOIDED = 256
_MOST_LINKS = 16
"""Programs that are attached to one file, at most."""


@dataclass(slots=True)
class Target:
    """A file that is attached to."""

    files: str
    path: str
    links: list[int]
    missed: int = 0
    """Searches of all processes since it was last come across."""


class News(msgspec.Struct, frozen=True):
    """What a search changed, for the log."""

    what: str
    files: str
    path: str
    reason: str = ""


class Uprobes:
    """All attachments. `search` and `close` block; `close` ends a search that another thread is in."""

    def __init__(self, programs: Iterable[tuple[str, str, int]]) -> None:
        """`programs`: probe, program and descriptor, which the caller keeps open."""
        self._programs = tuple(programs)
        self._targets: dict[FileId, Target] = {}
        self._refused: deque[FileId] = deque(maxlen=_MOST_REFUSED)
        self._avoid: deque[str] = deque(maxlen=_MOST_AVOIDED)
        self._left_out = self._stuck = self._searches = 0
        self._closed = False
        self._told_s, self._untold = -_QUIET_S, 0
        self._reason = ""
        """Why the last search was given up; empty: it was not."""
        self._searching = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to attach."""
        return bool(self._programs)

    def statistics(self) -> Mapping[str, int]:
        """Figures for the metrics."""
        return {
            "attached_files": len(self._targets),
            "refused_files": len(self._refused),
            "left_out_files": self._left_out,
            "searches": self._searches,
            "stuck_searches": self._stuck,
        }

    def search(self, pids: Iterable[int], most: int, tell: Callable[[News], None]) -> bool:
        """Look at these processes; without any, at all of them. Blocks, some 100 ms as a rule.

        No file beyond `most` is attached to. False where something did not answer: what that was is left out
        next time.
        """
        with self._searching:
            return self._closed or not self._programs or self._search(pids, most, tell)

    def _search(self, pids: Iterable[int], most: int, tell: Callable[[News], None]) -> bool:
        self._searches += 1
        known = (*self._targets, *self._refused)
        room = max(most - len(self._targets), 0)
        search = Search(self._programs, known, tuple(pids), room, tuple(self._avoid))
        try:
            child, ours = self._start()
        except OSError as error:  # no process or no descriptor is to be had just now
            self._give_up(str(error), tell)
            return False
        with ours:
            try:
                return self._follow(ours, search, tell)
            finally:
                child.kill()
                child.wait()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._child = subprocess.Popen(
                    # -P: what lies in the working directory must not run as root.
                    [sys.executable, "-P", "-m", "probes.kernel.finder", str(theirs.fileno())],
                    env={**os.environ, "PYTHONPATH": str(_PACKAGES)},
                    pass_fds=[theirs.fileno(), *(fd for _probe, _program, fd in self._programs)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        except OSError:
            ours.close()
            raise
        return self._child, ours

    def _give_up(self, reason: str, tell: Callable[[News], None]) -> None:
        if not self._closed:
            self._stuck += 1
            if reason != self._reason:  # told once
                tell(News("a search for files to attach to was given up", "", "", reason))
            self._reason = reason

    def _follow(self, channel: socket.socket, search: Search, tell: Callable[[News], None]) -> bool:
        deadline = time.monotonic() + _SEARCH_S
        opening = ""
        found: set[FileId] = set()
        try:
            channel.settimeout(_SEARCH_S)  # a child takes long to begin on a busy host
            channel.send(msgspec.json.encode(search))
            while not self._closed and (received := _receive(channel)) is not None:
                message, links = received
                channel.settimeout(_PATIENCE_S)
                match message:
                    case Opening(what=opening):
                        pass
                    case Attached():
                        self._take(message, links, tell)
                    case Found():
                        found.update(message.keys)
                        if message.is_more_to_come:
                            continue
                        self._left_out, self._reason = message.left_out, ""
                        if not search.pids:
                            self._let_go(found, tell)
                        return True
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError:
            self._avoid.append(opening)
            reason = f"not done in time at {opening}, which is left out from now on"
        except OSError as error:
            reason = str(error)
        else:
            reason = "the finder ended early"
        self._give_up(reason, tell)
        return False

    def _take(self, found: Attached, links: list[int], tell: Callable[[News], None]) -> None:
        if not links:
            self._refused.append(found.key)
            self._untold += 1
            now = time.monotonic()
            if now >= self._told_s + _QUIET_S:
                more = f"; {self._untold - 1} more before it" if self._untold > 1 else ""
                tell(News("a file cannot be watched", found.files, found.path, found.reason + more))
                self._told_s, self._untold = now, 0
            return
        # The same file with other content: what was attached lies at places of the old one.
        place = (found.key.device, found.key.inode)
        for key in [key for key in self._targets if key.device and (key.device, key.inode) == place]:
            self._detach(key)
        self._targets[found.key] = Target(found.files, found.path, links)
        tell(News("watching a file", found.files, found.path))

    def _let_go(self, found: set[FileId], tell: Callable[[News], None]) -> None:
        for key, target in list(self._targets.items()):
            target.missed = 0 if key in found else target.missed + 1
            if target.missed > 1:  # once may be a process that ended just then, and another that begins
                self._detach(key)
                tell(News("a file is no longer watched", target.files, target.path, "nobody has it any more"))

    def _detach(self, key: FileId) -> None:
        for link in self._targets.pop(key).links:
            os.close(link)

    def close(self) -> None:
        """Detach from everything. No program that began before still runs; what it sent is in the ring.

        Only the first file is certain to be let go at the return: see `leave_to_another`.
        """
        self._closed = True
        if self._child is not None:
            self._child.kill()
        with self._searching:
            links = [link for target in self._targets.values() for link in target.links]
            self._targets.clear()
            # The kernel waits here for whatever runs at any uprobe.
            for link in links[:1]:
                os.close(link)
            leave_to_another(links[1:])


def _receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message, with its descriptors, which no child inherits; None at the end."""
    size = array.array("i").itemsize
    data, controls, _flags, _address = channel.recvmsg(
        1 << 18, socket.CMSG_LEN(_MOST_LINKS * size), socket.MSG_CMSG_CLOEXEC
    )
    links = array.array("i")
    for level, kind, content in controls:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            links.frombytes(content[: len(content) - len(content) % size])
    if not data:
        return None
    return msgspec.json.decode(data, type=Message), list(links)
