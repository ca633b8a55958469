# SPDX-License-Identifier: GPL-2.0-or-later
"""User ids to names, from this host's passwd file.

The file is read directly: a name service could block on the network, and an
event's uid says nothing about a directory server that cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from probes.decoder import origin_reader
from probes.event import UNKNOWN, ProcessEvent
from probes.text import Remembered

_origin, _read_origin = origin_reader()
_UID = _origin.index("uid")

_PASSWD = Path("/etc/passwd")


def _read(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        uid = rest.split(":")[1:2]
        if uid and uid[0].isdecimal():
            names.setdefault(int(uid[0]), name)
    return names


class Users:
    """Names by uid; as many as the file has."""

    def __init__(self, path: Path = _PASSWD) -> None:
        self._path = path
        self._names: dict[int, str] = {}
        self._by_origin = Remembered(self._name)
        self._version: tuple[int, int, int] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it changed; what was read stays if it cannot be read."""
        try:
            status = self._path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._names = _read(self._path)
                self._by_origin = Remembered(self._name)
                self._version = version
        except OSError:
            return

    async def enrich(self, events: list[ProcessEvent]) -> None:
        """Set `user` of every process event."""
        by_origin = self._by_origin
        for event in events:
            event.user = by_origin[event.origin]

    def _name(self, origin: bytes) -> str:
        return self._names.get(_read_origin(origin)[_UID], UNKNOWN)

    def statistics(self) -> Mapping[str, int]:
        return {"entries": len(self._names)}
