# SPDX-License-Identifier: GPL-2.0-or-later
"""What an event's declaration means on the wire: field order and offsets.

A record is ``u32 length, u32 kind``, the header (`ProcessEvent`'s wire
fields), the body (the subclass's), then the tails in order of declaration,
packed. The body holds the fields of its own (`probes.fields.Own`) and one
``u32 NAME_length`` for each of their tails, then the others in the same way:
so the others, with their tails, are one piece. Members are naturally aligned,
padding is explicit, and everything is little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from probes.declared import Field, struct_fields
from probes.event import ProcessEvent
from probes.fields import Chars, Ip, Names, Opaque, Scalar, Tail, Wire

PREFIX = struct.Struct("<II")
"""Record length in bytes, kind."""

ENVIRONMENT = "environment"
"""The tail that `Variable` fields are taken from."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the fixed part: `pad` bytes, then the value at `offset`."""

    name: str
    wire: Wire
    offset: int
    pad: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Members that follow each other, and that an event keeps as one `bytes`."""

    members: tuple[Member, ...]
    offset: int
    size: int

    def format(self) -> str:
        """The `struct` format of its members."""
        at, codes = self.offset, "<"
        for member in self.members:
            codes += f"{member.offset - at}x{_code(member.wire)}"
            at = member.offset + width(member.wire)
        return codes


@dataclass(frozen=True, slots=True)
class Layout:
    """The wire form of one kind."""

    event: type[ProcessEvent]
    fields: tuple[Field, ...]
    header: tuple[Member, ...]
    body: tuple[Member, ...]
    tails: tuple[Field, ...]
    header_size: int
    size: int
    """Bytes before the first tail."""

    own: tuple[Member, ...]
    """Of header and body: the fields of their own, and the lengths of such tails."""

    origin: Piece
    """The others of the header."""

    rest: Piece
    """The others of the body, their tails' lengths among them. In a record, these tails follow at once."""

    def cut_bit(self, tail: str) -> int:
        """The bit in ``flags`` that says `tail` was cut or could not be read whole."""
        return 1 << [field.name for field in self.tails].index(tail)

    @property
    def own_tails(self) -> tuple[Field, ...]:
        """The last tails of the record."""
        return tuple(tail for tail in self.tails if tail.own)

    @property
    def rest_tails(self) -> tuple[Field, ...]:
        """The first tails of the record."""
        return tuple(tail for tail in self.tails if not tail.own)

    @property
    def is_remembered(self) -> bool:
        """Whether the rest comes again and again: see `probes.fields.Own`."""
        return len(self.rest.members) < len(self.body)


def _rank(field: Field) -> int:
    """Rank in the constructor: scalars, tails, variables, then what enrichments fill."""
    return [field.wire is not None, field.tail is not None, field.variable is not None, True].index(True)


def _code(wire: Wire) -> str:
    match wire:
        case Scalar(code=code):
            return code
        case Chars(size=size):
            return f"{size}s"
        case Ip():
            return "16s"
        case Opaque(size=size):
            return f"{size}s"


def width(wire: Wire) -> int:
    """Bytes that it takes in a record."""
    return struct.calcsize("<" + _code(wire))


def _alignment(wire: Wire) -> int:
    match wire:
        case Scalar():
            return width(wire)
        case Opaque():
            return 8
        case _:
            return 1


def _place(fields: Iterable[tuple[str, Wire]], start: int) -> Iterator[Member]:
    offset = start
    for name, wire in fields:
        pad = -offset % _alignment(wire)
        yield Member(name, wire, offset + pad, pad)
        offset += pad + width(wire)


def _end(members: tuple[Member, ...], start: int) -> int:
    return members[-1].offset + width(members[-1].wire) if members else start


@cache
def layout(event: type[ProcessEvent]) -> Layout:
    """The layout of one event class.

    Raises:
        TypeError: its fields are declared in an order that has no meaning.
    """
    fields = struct_fields(event)
    order = [_rank(field) for field in fields]
    if order != sorted(order):
        raise TypeError(f"{event.__name__}: scalars stand before tails, tails before variables")
    in_header = {field.name for field in struct_fields(ProcessEvent)}
    wired = [field for field in fields if field.wire is not None]
    header = tuple(_place([(f.name, f.wire) for f in wired if f.name in in_header and f.wire], PREFIX.size))
    header_size = _end(header, PREFIX.size)
    if header_size % 8:
        raise TypeError("the header's size is not a multiple of 8 bytes")
    tails = tuple(field for field in fields if field.tail is not None)
    if event.environment_limit:
        tails += (Field(ENVIRONMENT, Names("Environment."), tail=Tail(event.environment_limit), own=True),)
    if [tail.own for tail in tails] != sorted(tail.own for tail in tails):
        raise TypeError(f"{event.__name__}: tails of their own stand behind the others")
    body: list[tuple[str, Wire]] = []
    for own in (True, False):
        body += [(f.name, f.wire) for f in wired if f.name not in in_header and f.own is own and f.wire]
        body += [(f"{tail.name}_length", Scalar("u32", "I")) for tail in tails if tail.own is own]
    placed = tuple(_place(body, header_size))
    size = _end(placed, header_size)
    of_their_own = {f.name for f in wired if f.own} | {f"{tail.name}_length" for tail in tails if tail.own}
    own_members = tuple(m for m in (*header, *placed) if m.name in of_their_own)
    return Layout(
        event,
        fields,
        header,
        placed,
        tails,
        header_size,
        size,
        own_members,
        _piece([m for m in header if m not in own_members], header_size),
        _piece([m for m in placed if m not in own_members], size),
    )


def _piece(members: list[Member], end: int) -> Piece:
    if not members:
        return Piece((), end, 0)
    start = members[0].offset
    return Piece(tuple(members), start, _end(tuple(members), start) - start)


def fingerprint(events: Iterable[type[ProcessEvent]]) -> str:
    """16 hex digits that change with anything that would make old records unreadable."""
    shape = [
        (event.event_name, event.data_type, layout(event).header, layout(event).body, layout(event).tails)
        for event in sorted(events, key=lambda event: event.data_type)
    ]
    return hashlib.blake2b(repr(shape).encode(), digest_size=8).hexdigest()
