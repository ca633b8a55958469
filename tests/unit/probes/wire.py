# SPDX-License-Identifier: GPL-2.0-or-later
"""Records as the kernel side writes them, built with ctypes from the declarations alone.

Nothing here uses `probes.layout` or `probes.decoder`: the compiler's rules for a C struct, which ctypes
follows, are the second opinion.
"""

from __future__ import annotations

import ctypes
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

from probes.event import ProcessEvent
from probes.fields import Chars, Ip, Opaque, Own, Scalar, Tail, Variable
from probes.kernel.ring import Span
from probes.registry import all_events

EVENTS = all_events()
Values = Mapping[str, Any]

_CTYPES: Mapping[str, Any] = {
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "s32": ctypes.c_int32,
    "s64": ctypes.c_int64,
}

_INTEGERS = {
    name: st.integers(-(1 << 8 * ctypes.sizeof(kind) - 1), (1 << 8 * ctypes.sizeof(kind) - 1) - 1)
    if name.startswith("s")
    else st.integers(0, (1 << 8 * ctypes.sizeof(kind)) - 1)
    for name, kind in _CTYPES.items()
}

ENVIRONMENT = "environment"
Mark = Scalar | Chars | Ip | Opaque | Tail | Variable


@cache
def marks(event: type[ProcessEvent]) -> dict[str, Mark]:
    """What each field of `event` that the kernel fills is on the wire, bases first."""
    hints = typing.get_type_hints(event, include_extras=True)
    found = (
        (name, next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Mark)), None))
        for name, hint in hints.items()
    )
    return {name: mark for name, mark in found if mark is not None}


@cache
def of_its_own(event: type[ProcessEvent]) -> set[str]:
    """The fields of the body, and the tails, that stand apart from the others."""
    hints = typing.get_type_hints(event, include_extras=True)
    names = {name for name, hint in hints.items() if any(isinstance(m, Own) for m in getattr(hint, "__metadata__", ()))}
    return {*names, ENVIRONMENT} - set(marks(ProcessEvent))


def tail_names(event: type[ProcessEvent]) -> list[str]:
    """Every tail in its order, the environment too."""
    names = [name for name, mark in marks(event).items() if isinstance(mark, Tail)]
    return [*names, ENVIRONMENT] if event.environment_limit else names


@cache
def _fixed(event: type[ProcessEvent]) -> Any:
    """The fixed part as a C struct: the header, then what is of its own, then the rest."""
    members: dict[str, Any] = {"record_length": ctypes.c_uint32, "record_kind": ctypes.c_uint32}
    for name, mark in marks(event).items():
        match mark:
            case Scalar(ctype=ctype):
                members[name] = _CTYPES[ctype]
            case Chars(size=size):
                members[name] = ctypes.c_uint8 * size
            case Ip():
                members[name] = ctypes.c_uint8 * 16
            case Opaque(size=size):
                members[name] = ctypes.c_uint64 * (size // 8)
    members |= {f"{name}_length": ctypes.c_uint32 for name in tail_names(event)}
    own = of_its_own(event)

    def rank(name: str) -> int:
        in_header = name in {"record_length", "record_kind", *marks(ProcessEvent)}
        return 0 if in_header else 1 if name.removesuffix("_length") in own or name in own else 2

    fields = [(name, members[name]) for name in sorted(members, key=rank)]
    return type("Fixed", (ctypes.LittleEndianStructure,), {"_fields_": fields})


def member(event: type[ProcessEvent], name: str) -> tuple[int, int]:
    """Offset and size of one member of the fixed part."""
    place = getattr(_fixed(event), name)
    return place.offset, place.size


def fixed_size(event: type[ProcessEvent]) -> int:
    """Bytes before the first tail: a C struct without what rounds its size up."""
    last: str = _fixed(event)._fields_[-1][0]
    return sum(member(event, last))


def pack(event: type[ProcessEvent], values: Values) -> bytes:
    """The record of these values; a tail or a number that is not given is empty or 0."""
    tails = {name: values.get(name, b"") for name in tail_names(event)}
    fixed = _fixed(event)()
    for name, mark in marks(event).items():
        if isinstance(mark, Scalar):
            setattr(fixed, name, values.get(name, 0))
        elif isinstance(mark, Chars | Ip | Opaque):
            raw = values.get(name, b"")
            ctypes.memmove(getattr(fixed, name), raw, len(raw))
    for name, tail in tails.items():
        setattr(fixed, f"{name}_length", len(tail))
    fixed.record_length = fixed_size(event) + sum(map(len, tails.values()))
    fixed.record_kind = event.data_type
    return bytes(fixed)[: fixed_size(event)] + b"".join(tails.values())


def payloads(event: type[ProcessEvent]) -> st.SearchStrategy[dict[str, Any]]:
    """Values for every field that the kernel fills, but for the environment's."""
    each: dict[str, st.SearchStrategy[Any]] = {}
    for name, mark in marks(event).items():
        match mark:
            case Scalar(ctype=ctype):
                each[name] = _INTEGERS[ctype]
            case Chars(size=size):
                each[name] = _padded(size)
            case Ip():
                each[name] = st.binary(min_size=16, max_size=16)
            case Opaque(size=size):
                each[name] = st.binary(min_size=size, max_size=size)
            case Tail():
                each[name] = st.binary(max_size=40)
            case Variable():
                each[name] = st.binary(max_size=40).map(_without_nul)
    return st.fixed_dictionaries(each)


def _padded(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=size).map(lambda raw: raw.ljust(size, b"\0"))


def _without_nul(raw: bytes) -> bytes:
    return raw.replace(b"\0", b"")


def environment(event: type[ProcessEvent], values: Values) -> bytes:
    """The environment strings of the `Variable` fields that are not empty."""
    strings = [
        mark.name.encode() + b"=" + values[name] + b"\0"
        for name, mark in marks(event).items()
        if isinstance(mark, Variable) and values.get(name)
    ]
    return b"".join(strings)


def record(event: type[ProcessEvent], values: Values) -> bytes:
    """The record of these values, its environment made from the values of its variables."""
    return pack(event, {ENVIRONMENT: environment(event, values), **values})


def span(records: Iterable[bytes]) -> Span:
    """Records as they lie in the ring: an 8-byte header each, padded to 8 bytes."""
    data = bytearray()
    places = []
    for each in records:
        data += len(each).to_bytes(4, "little") + bytes(4)
        places.append((len(data), len(each)))
        data += each + bytes(-len(each) % 8)
    return Span(bytes(data), places)


def any_event() -> st.SearchStrategy[type[ProcessEvent]]:
    """Any of the probes' events."""
    return st.sampled_from(EVENTS)


def any_record() -> st.SearchStrategy[tuple[type[ProcessEvent], dict[str, Any]]]:
    """Any event with values for it."""
    return any_event().flatmap(lambda event: st.tuples(st.just(event), payloads(event)))
