# SPDX-License-Identifier: GPL-2.0-or-later
"""A name server on a loopback address of its own, for programs whose resolv.conf names it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType

ADDRESS = "127.83.0.1"

_FAMILIES = {1: socket.AF_INET, 28: socket.AF_INET6}
"""Of the types A and AAAA."""


class Nameserver:
    """A context manager. What is not in `zone` does not exist.

    The names in `together` are answered once all of them have been asked for: whoever asks for one waits until
    others have asked for the rest.
    """

    def __init__(self, zone: Mapping[str, Sequence[str]], together: frozenset[str] = frozenset()) -> None:
        self._zone = zone
        self._together = together
        self._held: list[tuple[bytes, str, int, tuple[str, int]]] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Nameserver:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, 53))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", (ADDRESS, 53))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(4096)
            if not query:
                return
            name, kind = _question(query)
            self._held.append((query, name, kind, peer))
            if name in self._together and {held[1] for held in self._held} != self._together:
                continue
            self._together = frozenset()
            while self._held:
                query, name, kind, peer = self._held.pop()
                self._socket.sendto(self._answer(query, name, kind), peer)

    def _answer(self, query: bytes, name: str, kind: int) -> bytes:
        family = _FAMILIES.get(kind)
        known = self._zone.get(name)
        records = [_packed(text, family) for text in known or () if family is not None and _is(text, family)]
        header = struct.pack("!2sHHHHH", query[:2], 0x8180 | 3 * (known is None), 1, len(records), 0, 0)
        question = query[12 : query.index(b"\0", 12) + 5]
        answers = [struct.pack("!HHHIH", 0xC00C, kind, 1, 1, len(each)) + each for each in records]
        return b"".join([header, question, *answers])


def _question(query: bytes) -> tuple[str, int]:
    end = query.index(b"\0", 12)
    labels = []
    at = 12
    while at < end:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]
    return ".".join(labels), struct.unpack_from("!H", query, end + 1)[0]


def _is(text: str, family: int) -> bool:
    return (":" in text) == (family == socket.AF_INET6)


def _packed(text: str, family: int) -> bytes:
    return socket.inet_pton(family, text)
