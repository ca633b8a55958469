# SPDX-License-Identifier: GPL-2.0-or-later
"""Records to events: one generated function a kind, made once at start.

A decoder checks a record whole and takes it apart into the few pieces that an
event keeps. What is inside a piece is read by a reader, when somebody asks.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from probes.declared import parted
from probes.errors import RecordError
from probes.event import ProcessEvent
from probes.fields import Opaque, Scalar
from probes.layout import ENVIRONMENT, Layout, Member, Piece, layout, width
from probes.text import Remembered

try:
    from probes import native
except ImportError:  # there was no C compiler
    native = None  # type: ignore[assignment]

IS_BUILT = native is not None
"""Whether there is a decoder in C."""

Decode = Callable[[bytes, int, int], ProcessEvent]
"""(buffer, offset, size) -> event; sizes in bytes. Raises `RecordError`."""

Read = Callable[[bytes], tuple[Any, ...]]
"""Piece of a record -> the values of its fields. Raises `RecordError`."""


@cache
def origin_reader() -> tuple[tuple[str, ...], Read]:
    """The names of the fields in an event's `origin`, and what reads their values."""
    piece = layout(ProcessEvent).origin
    read: Read = struct.Struct(piece.format()).unpack
    return tuple(member.name for member in piece.members), Remembered(read).__getitem__


@cache
def body_reader(event: type[ProcessEvent]) -> tuple[tuple[str, ...], Read]:
    """The names of the fields in an event's `body`, and what reads their values."""
    shape = layout(event)
    tails = [tail.name for tail in shape.rest_tails]
    members = [member.name for member in shape.rest.members]
    names = (*members[: len(members) - len(tails)], *tails)
    lines = [
        "def read(_piece):",
        f"    if len(_piece) < {shape.rest.size}:",
        f"        raise RecordError('a {event.event_name} record is cut short')",
        f"    {_tuple(members)} = unpack_from(_piece)",
        f"    _end = {shape.rest.size}",
    ]
    for tail in tails:
        lines += [f"    _start, _end = _end, _end + {tail}_length", f"    {tail} = _piece[_start:_end]"]
    lines += [
        "    if _end != len(_piece):",
        f"        raise RecordError('the lengths inside a {event.event_name} record do not add up')",
        f"    return {_tuple(names)}",
    ]
    read: Read = _function("read", lines, event, unpack_from=struct.Struct(shape.rest.format()).unpack_from)
    return names, Remembered(read).__getitem__ if shape.is_remembered else read


@cache
def decoder(event: type[ProcessEvent]) -> Decode:
    """The decoder of one kind, as generated code; an event's fields can be read as soon as it is made."""
    shape = layout(event)
    _make_readable(shape)
    origin = Member("origin", Opaque("", shape.origin.size), shape.origin.offset, 0)
    unpacked = Piece((*sorted((*shape.own, origin), key=lambda member: member.offset),), 0, shape.size)
    names = [member.name for member in unpacked.members]
    lines = [
        "def decode(_buffer, _offset, _size):",
        f"    if _size < {shape.size}:",
        f"        raise RecordError(f'a {event.event_name} record of {{_size}} bytes is cut short')",
        f"    {_tuple(names)} = unpack_from(_buffer, _offset)",
        "    _end = _offset + _size",
    ]
    values, at = {}, "_end"
    for tail in reversed(shape.own_tails):
        lines.append(f"    {tail.name}_at = {at} - {tail.name}_length")
        values[tail.name] = f"_buffer[{tail.name}_at:{at}]"
        at = f"{tail.name}_at"
    lengths = [f"{tail.name}_length" for tail in shape.rest_tails]
    if shape.is_remembered:
        lines.append(f"    if {at} < _offset + {shape.size}:")
    elif lengths:
        lines.append(f"    {_tuple(lengths)} = unpack_lengths(_buffer, _offset + {shape.size - 4 * len(lengths)})")
    if not shape.is_remembered:
        lines.append(f"    if {' + '.join([str(shape.size), *lengths])} != _size:")
    lines += [
        f"        raise RecordError(f'the lengths inside a {event.event_name} record do not add up to {{_size}}')",
        f"    body = _buffer[_offset + {shape.rest.offset}:{at}]",
    ]
    if shape.is_remembered:
        lines.append("    read(body)  # which checks the other lengths")
    held = [name for name in event.__struct_fields__ if name in {*names, *values, "body"}]
    lines.append(f"    return Event({', '.join(values.get(name, name) for name in held)})")
    decode: Decode = _function(
        "decode",
        lines,
        event,
        unpack_from=struct.Struct(unpacked.format()).unpack_from,
        unpack_lengths=struct.Struct(f"<{len(lengths)}I").unpack_from,
        read=body_reader(event)[1],
    )
    return decode


def _make_readable(shape: Layout) -> None:
    """Give the event's class a property for each field that its instances do not hold."""
    for place, name in enumerate(origin_reader()[0]):
        setattr(ProcessEvent, name, _inside("origin", origin_reader()[1], place))
    names, read = body_reader(shape.event)
    for place, name in enumerate(names):
        setattr(shape.event, name, _inside("body", read, place))
    for field in shape.fields:
        if field.variable is not None:
            setattr(shape.event, field.name, _inside_environment(field.variable.name))
    for piece, parts in parted(shape.event).items():
        for place, name in enumerate(parts):
            setattr(shape.event, name, _inside(piece, parts_reader(len(parts)), place))


def parts_reader(count: int) -> Callable[[str], Sequence[str]]:
    """What reads the `count` parts of a piece that an enrichment set: see `probes.fields.Part`."""
    nothing = ("",) * count
    return lambda piece: piece.split("\0") if piece else nothing


def _inside(piece: str, read: Callable[[Any], Sequence[Any]], place: int) -> property:
    get = attrgetter(piece)
    return property(lambda event: read(get(event))[place])


def _inside_environment(name: str) -> property:
    key = f"{name}=".encode()
    return property(lambda event: variable(event.environment, key))


def variable(environment: bytes, key: bytes) -> bytes:
    """The value behind `key` ("NAME=") among strings that a NUL ends; empty where it is not set."""
    for string in environment.split(b"\0"):
        if string.startswith(key):
            return string[len(key) :]
    return b""


def _tuple(names: Iterable[str]) -> str:
    return f"({''.join(f'{name}, ' for name in names)})"


def _function(name: str, lines: list[str], event: type[ProcessEvent], **namespace: Any) -> Any:
    scope = {"Event": event, "RecordError": RecordError, **namespace}
    exec(compile("\n".join(lines), f"<{name} {event.event_name}>", "exec"), scope)  # noqa: S102 - from declarations alone
    return scope[name]


_NUMBER, _SIGNED_NUMBER, _BYTES, _REST, _TAIL = range(5)
"""As `enum form` in native.c."""


def plan(event: type[ProcessEvent]) -> tuple[object, ...]:
    """What `decoder` does for one kind, as native.c reads it."""
    shape = layout(event)
    members = {member.name: member for member in (*shape.header, *shape.body)}
    tails = [tail.name for tail in shape.tails]

    def value(name: str) -> tuple[int, int, int, bool]:
        if name == "origin":
            return _BYTES, shape.origin.offset, shape.origin.size, True
        if name == "body":
            return _REST, shape.rest.offset, shape.rest.size, shape.is_remembered
        if name in tails:
            return _TAIL, tails.index(name), 0, name == ENVIRONMENT
        member = members[name]
        if isinstance(member.wire, Scalar):
            is_signed = member.wire.code.islower() and member.wire.code in "iq"
            return _SIGNED_NUMBER if is_signed else _NUMBER, member.offset, width(member.wire), False
        return _BYTES, member.offset, width(member.wire), True

    held = {"origin", "body", *members, *tails}
    names = event.__struct_fields__
    fillings = tuple(zip(names[len(names) - len(event.__struct_defaults__) :], event.__struct_defaults__, strict=True))
    # A class that did more than take its fields, or made a new value for each instance, would have to be called.
    assert not hasattr(event, "__post_init__")
    assert {str, bytes} >= {type(filling) for _name, filling in fillings}
    return (
        event,
        event.data_type,
        shape.size,
        tuple(members[name].offset for name in ("cpu", "sequence", "time_ns")),
        tuple(members[f"{name}_length"].offset for name in tails),
        len(shape.own_tails),
        tuple((name, *value(name)) for name in names if name in held),
        fillings,
    )


class Decoder:
    """All kinds' decoders: by kind number in Python, and as one in C where that was built."""

    def __init__(self, events: Iterable[type[ProcessEvent]], *, in_c: bool = IS_BUILT) -> None:
        """`in_c`: whether to use the one in C."""
        by_number = sorted(events, key=lambda event: event.data_type)
        self.by_kind = {event.data_type: decoder(event) for event in by_number}
        self.in_c = native.Decoder(tuple(map(plan, by_number))) if in_c else None
