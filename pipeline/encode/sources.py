# SPDX-License-Identifier: GPL-2.0-or-later
"""What many events have in common, as sources of fragments (`pipeline.encode.document`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pipeline.encode.document import Source
from probes.declared import Field, event_fields, parted
from probes.decoder import body_reader, origin_reader, parts_reader, variable
from probes.event import Enriched, HostEvent, ProcessEvent
from probes.layout import layout
from probes.text import Remembered


def _remembered(write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return Remembered(write).__getitem__


def sources_of(event: type[HostEvent], without: frozenset[str] = frozenset()) -> Mapping[str, Source]:
    """The sources of one kind's fields, by the name of the source; `without` these fields."""
    if not issubclass(event, ProcessEvent):
        return {}
    variables = {field.name: field.variable.name for field in event_fields(event) if field.variable is not None}
    enriched = tuple(name for name in _enriched() if name not in without)
    found = {
        "origin": Source("e.origin", *origin_reader(), _remembered),
        "body": Source("e.body", *body_reader(event), _remembered if layout(event).is_remembered else lambda f: f),
        "enriched": Source(f"({', '.join(f'e.{name}' for name in enriched)})", enriched, tuple, _remembered),
    }
    for piece, names in parted(event).items():
        found[piece] = Source(f"e.{piece}", names, parts_reader(len(names)), _remembered)
    if variables:
        keys = [f"{name}=".encode() for name in variables.values()]
        read = partial(_variables, keys)
        found["environment"] = Source("e.environment", tuple(variables), read, _remembered)
    return found


def _variables(keys: list[bytes], environment: bytes) -> tuple[bytes, ...]:
    return tuple(variable(environment, key) for key in keys)


def _enriched() -> tuple[str, ...]:
    """What enrichments know of many events at once."""
    own = set(HostEvent.__struct_fields__)
    return tuple(f.name for f in event_fields(Enriched) if f.name not in own and not f.unique and f.part is None)


def source_of(field: Field, sources: Mapping[str, Source]) -> str:
    """The name of the source that has `field`, or what it is derived from; empty: the event itself."""
    wanted = field.derived.sources[0] if field.derived is not None else field.name
    return next((name for name, source in sources.items() if wanted in source.names), "")
