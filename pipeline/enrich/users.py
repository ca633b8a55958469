# SPDX-License-Identifier: GPL-2.0-or-later
"""User ids to names, from this host's passwd file.

The file is read directly: a name service could block on the network, and an
event's uid says nothing about a directory server that cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.enrich.assignment import assignment
from probes.decoder import origin_reader
from probes.event import UNKNOWN, ProcessEvent
from probes.text import Remembered

_origin, _read_origin = origin_reader()
_UID = _origin.index("uid")
_assign_user = assignment("origin", "user", unless="container")

_PASSWD = Path("/etc/passwd")


class User(NamedTuple):
    """What a line of the file says."""

    name: str
    home: str


def parse(text: str) -> dict[int, User]:
    """Users by id. Of several of one id the first counts, as for getpwuid(3)."""
    users: dict[int, User] = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        fields = rest.split(":")
        if len(fields) > 1 and fields[1].isdecimal():
            users.setdefault(int(fields[1]), User(name, fields[4] if len(fields) > 4 else ""))
    return users


class Users:
    """Names by uid; as many as the file has."""

    def __init__(self, path: Path = _PASSWD) -> None:
        self._path = path
        self._users: dict[int, User] = {}
        self._by_origin = Remembered(self._name)
        self._seen = self._misses = self._evictions = 0
        self._version: tuple[int, int, int] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed; what was read stays if it cannot be read."""
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._users = parse(self._path.read_text(encoding="utf-8", errors="replace"))
                self._misses += self._by_origin.misses
                self._evictions += self._by_origin.evictions
                self._by_origin = Remembered(self._name)
                self._version = version
        except OSError:
            return

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `user` of every process event; not of one in a container, which has users of its own."""
        by_origin = self._by_origin
        self._seen += len(events)
        for event in _assign_user(events, by_origin):
            event.user = by_origin[event.origin]

    def _name(self, origin: bytes) -> str:
        user = self._users.get(_read_origin(origin)[_UID])
        return UNKNOWN if user is None else user.name

    def home(self, uid: int) -> str:
        """The user's home; "" of nobody."""
        user = self._users.get(uid)
        return "" if user is None else user.home

    def statistics(self) -> Mapping[str, int]:
        # Of each event, its origin is looked up: a dictionary of its own counts what was not there.
        by_origin = self._by_origin
        misses = self._misses + by_origin.misses
        return {
            "users": len(self._users),
            "size": len(by_origin),
            "hits": self._seen - misses,
            "misses": misses,
            "evictions": self._evictions + by_origin.evictions,
        }
