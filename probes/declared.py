# SPDX-License-Identifier: GPL-2.0-or-later
"""The fields of an event, as its class declares them: each with what its annotation says."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType

from probes.event import HostEvent
from probes.fields import (
    Block,
    BootTime,
    Derived,
    Hex,
    Names,
    Own,
    Part,
    Tail,
    Unique,
    Variable,
    Wire,
)


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

    def one(kind: type | UnionType) -> typing.Any:
        return next((mark for mark in marks if isinstance(mark, kind)), None)

    names = one(Names)
    if names is None:
        raise TypeError(f"the field {name} is declared without Names(...)")
    return Field(
        name=name,
        names=names,
        wire=one(Wire),
        tail=one(Tail),
        variable=one(Variable),
        boot_time=one(BootTime) is not None,
        hex=one(Hex) is not None,
        unique=one(Unique) is not None,
        part=one(Part),
        own=one(Own) is not None or name in HostEvent.__struct_fields__,
        python_type=typing.get_args(annotation)[0],
    )


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
