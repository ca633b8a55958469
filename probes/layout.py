# SPDX-License-Identifier: GPL-2.0-or-later
"""What an event's declaration means on the wire: field order, offsets, C struct.

A record is ``u32 length, u32 kind``, the header (`ProcessEvent`'s wire
fields), the body (the subclass's), then the tails in order of declaration,
packed. The body holds the fields of its own (`probes.fields.Own`) and one
``u32 NAME_length`` for each of their tails, then the others in the same way:
so the others, with their tails, are one piece. Members are naturally aligned,
padding is explicit, and everything is little-endian.
"""

from __future__ import annotations

import hashlib
import inspect
import struct
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from probes.event import HostEvent, ProcessEvent
from probes.fields import (
    Block,
    BootTime,
    Chars,
    Derived,
    Hex,
    Ip,
    Names,
    Opaque,
    Own,
    Part,
    Scalar,
    Tail,
    Unique,
    Variable,
)

Wire = Scalar | Chars | Ip | Opaque

PREFIX = struct.Struct("<II")
"""Record length in bytes, kind."""


ENVIRONMENT = "environment"
"""The tail that `Variable` fields are taken from."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event, with what its annotation says."""

    name: str
    names: Names
    wire: Wire | None = None
    tail: Tail | None = None
    variable: Variable | None = None
    boot_time: bool = False
    hex: bool = False
    unique: bool = False
    derived: Derived | None = None
    part: Part | None = None
    own: bool = False
    python_type: type = str


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


@cache
def parted(event: type[HostEvent]) -> Mapping[str, tuple[str, ...]]:
    """The names of the parts of each piece that enrichments set: see `probes.fields.Part`."""
    found: dict[str, tuple[str, ...]] = {}
    for field in struct_fields(event):
        if field.part is not None:
            found[field.part.piece] = (*found.get(field.part.piece, ()), field.name)
    return found


def _is_added(field: Field) -> bool:
    return field.wire is None and field.tail is None and field.variable is None


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


@cache
def event_fields(event: type[HostEvent]) -> tuple[Field, ...]:
    """Every field of `event`, in the order of its constructor, then what is derived from them."""
    derived = (Field(each.name, each.names, derived=each, python_type=object) for each in event.derived)
    return (*struct_fields(event), *derived)


@cache
def struct_fields(event: type[HostEvent]) -> tuple[Field, ...]:
    """The fields that an `event` has as attributes, in the order of its constructor."""
    declared: dict[str, Field | None] = {}
    for kind in reversed(event.__mro__):
        declared |= _declared(kind)
    fields = [field for field in declared.values() if field is not None]
    fields.sort(key=_is_added)
    renamed = event.renamed
    return tuple(
        replace(field, names=replace(field.names, smith=renamed.get(field.name, field.names.smith))) for field in fields
    )


@cache
def _declared(kind: type) -> dict[str, Field | None]:
    """What the class itself declares, not its bases; None for what is no field."""
    hints = inspect.get_annotations(kind, eval_str=True)
    return {name: None if _is_no_field(hint) else _field(name, hint) for name, hint in hints.items()}


def _is_no_field(annotation: object) -> bool:
    return typing.get_origin(annotation) is typing.ClassVar or Block() in getattr(annotation, "__metadata__", ())


def _field(name: str, annotation: object) -> Field:
    marks = getattr(annotation, "__metadata__", ())

    def one(*types: type) -> typing.Any:
        return next((mark for mark in marks if isinstance(mark, types)), None)

    names = one(Names)
    if names is None:
        raise TypeError(f"the field {name} is declared without Names(...)")
    return Field(
        name=name,
        names=names,
        wire=one(Scalar, Chars, Ip, Opaque),
        tail=one(Tail),
        variable=one(Variable),
        boot_time=one(BootTime) is not None,
        hex=one(Hex) is not None,
        unique=one(Unique) is not None,
        part=one(Part),
        own=one(Own) is not None or name in HostEvent.__struct_fields__,
        python_type=typing.get_args(annotation)[0],
    )


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


def _c_members(members: Iterable[Member]) -> Iterator[str]:
    for member in members:
        if member.pad:
            yield f"\tu8 pad_{member.offset}[{member.pad}];"
        match member.wire:
            case Scalar(ctype=ctype):
                yield f"\t{ctype} {member.name};"
            case Chars(size=size):
                yield f"\tchar {member.name}[{size}];"
            case Ip():
                yield f"\tu8 {member.name}[16];"
            case Opaque(struct=name):
                yield f"\tstruct {name} {member.name};"


def _c_struct(name: str, members: tuple[Member, ...], first: list[str], start: int) -> str:
    lines = [f"struct {name} {{", *first, *_c_members(members), "} __attribute__((packed, aligned(8)));"]
    lines += [
        f'_Static_assert(offsetof(struct {name}, {m.name}) == {m.offset - start}, "{name}.{m.name}");' for m in members
    ]
    return "\n".join(lines)


_STRUCTS = """\
/* Which file, and which content of it; as probes.identity.FileId. */
struct hl_file_id {
	u64 inode;
	u64 ctime;
	u64 mtime;
	u64 size;
	u64 device;
};

/* A file when it was created; as probes.identity.CreatedId. */
struct hl_created_id {
	u64 inode;
	u64 ctime;
	u32 device;
	u32 generation;
};

/* Who a task is; as probes.fields.IDS. */
struct hl_ids {
	u32 uid, euid, suid, fsuid;
	u32 gid, egid, sgid, fsgid;
};"""


def c_header(events: Iterable[type[ProcessEvent]], kinds: Sequence[str] = ()) -> str:
    """The C declarations of all `events`: kinds, slots, structs, cut bits, sizes.

    A kind's slot is its index in the counters map: its name's place among
    `kinds`, or else in the order of the events' numbers.
    """
    layouts = sorted((layout(event) for event in events), key=lambda each: each.event.data_type)
    slots = kinds or [each.event.event_name for each in layouts]
    parts = [
        "/* Made from the event declarations; do not edit. */",
        _STRUCTS,
        _c_struct("hl_header", layout(ProcessEvent).header, ["\tu32 length;", "\tu32 kind;"], 0),
        f"#define HL_SLOTS {max(len(slots), 1)}",
    ]
    for each in layouts:
        name = each.event.event_name
        upper = name.upper()
        parts += [
            f"#define HL_KIND_{upper} {each.event.data_type}",
            f"#define HL_SLOT_{upper} {slots.index(name)}",
            f"#define HL_SIZE_{upper} {each.size}",
            _c_struct(f"hl_{name}", each.body, [], each.header_size),
        ]
        for tail in each.tails:
            assert tail.tail is not None
            parts += [
                f"#define HL_{upper}_{tail.name.upper()}_MAX {tail.tail.limit}",
                f"#define HL_{upper}_{tail.name.upper()}_CUT {each.cut_bit(tail.name)}U",
            ]
    return "\n".join(parts) + "\n"


def fingerprint(events: Iterable[type[ProcessEvent]]) -> str:
    """16 hex digits that change with anything that would make old records unreadable."""
    shape = [
        (event.event_name, event.data_type, layout(event).header, layout(event).body, layout(event).tails)
        for event in sorted(events, key=lambda event: event.data_type)
    ]
    return hashlib.blake2b(repr(shape).encode(), digest_size=8).hexdigest()
