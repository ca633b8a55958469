# SPDX-License-Identifier: GPL-2.0-or-later
"""Bodies of ``_bulk`` requests: a line that says what to do before each document, which stays as it was encoded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

# How every line of the ecs schema begins. Nothing in it comes from the host but digits, so no name that a process has
# can pass for a part of it. Classes of one character are what the regular expressions of Python are quick with.
_beginning = re.compile(
    rb'(\{"@timestamp":"[^"]*","ecs":\{[^}]*\},"event":\{"id":"([^"]*)",[^}]*\},'
    rb'"data_stream":\{"type":"logs","dataset":"([^"]*)","namespace":")default"'
).match
_ACTION = b'{"create":{"_index":"logs-%s-%s","_id":"%s"}}\n'
_NEXT = b'\n{"create":{"_index":'


class _Event(msgspec.Struct):
    id: str


class _DataStream(msgspec.Struct):
    dataset: str


class _Document(msgspec.Struct):
    event: _Event
    data_stream: _DataStream


_document = msgspec.json.Decoder(_Document)


class Bulk(NamedTuple):
    """The body of one request."""

    body: bytes
    """Two lines a document."""

    documents: int

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Action and document of each, without the ends of their lines."""
        lines = self.body.split(b"\n")
        return zip(lines[:-1:2], lines[1::2], strict=True)

    def halves(self) -> tuple[Bulk, Bulk]:
        """The same documents in two requests; at least two are needed."""
        pairs = list(self.pairs())
        middle = len(pairs) // 2
        return of_pairs(pairs[:middle]), of_pairs(pairs[middle:])


def of_pairs(pairs: list[tuple[bytes, bytes]]) -> Bulk:
    """A request of these actions and documents."""
    return Bulk(b"".join(b"%s\n%s\n" % pair for pair in pairs), len(pairs))


def kind_of(action: bytes) -> int:
    """The ``data_type`` in the event id of an action."""
    return int(action.rpartition(b'"_id":"')[2].split(b"-", 2)[1])


def bulks(lines: bytes, namespace: str, *, max_bytes: int) -> Iterator[Bulk]:
    """Requests that create every document of `lines` (NDJSON of ecs) under its event id, made as they are asked for.

    None is larger than `max_bytes`, but for a document that alone is.
    """
    name = namespace.encode()
    start, body = 0, b""
    while start < len(lines):
        end = lines.find(b"\n", start + max_bytes) + 1 or len(lines)
        body += _with_actions(lines[start:end], name)
        start = end
        while (cut := _first(body, max_bytes)) < len(body):
            yield _bulk(body[:cut])
            body = body[cut:]
    if body:
        yield _bulk(body)


def _with_actions(lines: bytes, namespace: bytes) -> bytes:
    pieces: list[bytes] = []
    for line in lines.split(b"\n"):
        if found := _beginning(line):
            before, event_id, dataset = found.groups()
            pieces += (_ACTION % (dataset, namespace, event_id), before, namespace, line[found.end() - 1 :], b"\n")
        elif line:
            pieces.append(_spelt_out(line, namespace))
    return b"".join(pieces)


def _spelt_out(line: bytes, namespace: bytes) -> bytes:
    """The same for a line that begins otherwise, of the spool of another version, say."""
    document = _document.decode(line)
    index = document.data_stream.dataset.encode()
    return _ACTION % (index, namespace, document.event.id.encode()) + line + b"\n"


def is_document(line: bytes) -> bool:
    """Whether `bulks` can make something of it."""
    try:
        return _beginning(line) is not None or bool(_spelt_out(line, b""))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _first(body: bytes, max_bytes: int) -> int:
    """Where the first request of `body` ends."""
    if len(body) <= max_bytes:
        return len(body)
    cut = body.rfind(_NEXT, 0, max_bytes)
    if cut < 0:
        cut = body.find(_NEXT)
    return cut + 1 if cut >= 0 else len(body)


def _bulk(body: bytes) -> Bulk:
    return Bulk(body, body.count(_NEXT) + 1)
