# SPDX-License-Identifier: GPL-2.0-or-later
"""Records to events: one generated function a kind, made once at start."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from probes.errors import RecordError
from probes.event import ProcessEvent
from probes.layout import PREFIX, Field, Layout, layout

Decode = Callable[[bytes, int, int], ProcessEvent]
"""(buffer, offset, size) -> event; sizes in bytes. Raises `RecordError`."""


def _variable(environment: bytes, key: bytes) -> bytes:
    """The value behind `key` ("NAME=") among strings that a NUL ends; empty where it is not set."""
    for string in environment.split(b"\0"):
        if string.startswith(key):
            return string[len(key) :]
    return b""


def decoder(event: type[ProcessEvent]) -> Decode:
    """The decoder of one kind, as generated code over one `struct.Struct`."""
    shape = layout(event)
    namespace: dict[str, Any] = {
        "unpack": struct.Struct(shape.format()).unpack_from,
        "unpack_lengths": struct.Struct(f"<{len(shape.tails)}I").unpack_from,
        "Event": event,
        "RecordError": RecordError,
        "variable": _variable,
    }
    exec(compile(_source(shape), f"<decoder of {event.event_name}>", "exec"), namespace)  # noqa: S102 - from declarations alone
    decode: Decode = namespace["decode"]
    return decode


def _source(shape: Layout) -> str:
    name = shape.event.event_name
    lines = [
        "def decode(buffer, offset, size):",
        f"    if size < {shape.size}:",
        f"        raise RecordError(f'a {name} record of {{size}} bytes is cut short')",
    ]
    if shape.tails:
        lengths = [f"{tail.name}_length" for tail in shape.tails]
        lines.append(f"    ({', '.join(lengths)},) = unpack_lengths(buffer, offset + {shape.lengths_at()})")
    at = f"offset + {shape.size}"
    for tail in shape.tails:
        lines.append(f"    {tail.name}_at = {at}")
        at = f"{tail.name}_at + {tail.name}_length"
    lines += [
        f"    end = {at}",
        "    if end - offset != size:",
        f"        raise RecordError(f'the lengths inside a {name} record do not add up to {{size}}')",
    ]
    ends = [*(f"{tail.name}_at" for tail in shape.tails[1:]), "end"][: len(shape.tails)]
    values = [f"*unpack(buffer, offset + {PREFIX.size})"]
    fields = {field.name for field in shape.fields}
    values += [
        f"buffer[{tail.name}_at:{end}]" for tail, end in zip(shape.tails, ends, strict=True) if tail.name in fields
    ]
    values += [
        f"variable(buffer[environment_at:end], {key!r}) if environment_length else b''"
        for key in map(_key, shape.fields)
        if key
    ]
    return "\n".join([*lines, f"    return Event({', '.join(values)})", ""])


def _key(field: Field) -> bytes | None:
    return f"{field.variable.name}=".encode() if field.variable is not None else None


class Decoder:
    """All kinds' decoders, by kind number."""

    def __init__(self, events: Iterable[type[ProcessEvent]]) -> None:
        self.by_kind = {event.data_type: decoder(event) for event in events}
