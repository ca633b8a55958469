# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fields of an event are called in ecs documents, and what Elasticsearch is to take them for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probes.declared import Field, event_fields
from probes.event import HostEvent, ProcessEvent
from probes.fields import EcsType

ADDED: Mapping[str, EcsType] = {
    "@timestamp": "date",
    **dict.fromkeys(
        (
            *("ecs.version", "event.id", "event.kind", "event.module", "event.dataset", "event.category"),
            *("event.type", "event.action", "event.outcome"),
            *("data_stream.type", "data_stream.dataset", "data_stream.namespace"),
            *("host.hostname", "host.name", "host.id", "host.boot.id", "hookline.truncated"),
            *("process.entity_id", "process.parent.entity_id"),
        ),
        "keyword",
    ),
    "host.ip": "ip",
    "hookline.data_type": "long",
}
"""Names that no field declares."""


def ecs_names(event: type[HostEvent], field: Field) -> list[str]:
    """Every name under which `field` stands in ecs."""
    name = field.names.ecs
    if name is None:
        return []
    subject = event.subject if issubclass(event, ProcessEvent) else "process"
    if subject != "process" and name.startswith("process.") and _is_common(field):
        if name.startswith("process.parent."):
            return []
        name = f"{subject}.{name.removeprefix('process.')}"
    if field.tail is not None and field.tail.form == "argv":
        parent = name.rpartition(".")[0]
        return [name, f"{parent}.args_count", f"{parent}.command_line"]
    return [name]


def ecs_types(events: Iterable[type[HostEvent]]) -> dict[str, EcsType]:
    """The type of every dotted name that documents of `events` may hold.

    Raises:
        TypeError: two events declare one name with two types.
    """
    types = dict(ADDED)
    for event in events:
        for field in event_fields(event):
            for name in ecs_names(event, field):
                kind: EcsType = field.names.ecs_type
                if field.boot_time:
                    kind = "date"
                elif name.endswith(".args_count"):
                    kind = "long"
                elif name.endswith(".command_line"):
                    kind = "wildcard"
                if types.setdefault(name, kind) != kind:
                    raise TypeError(f"{name} is a {types[name]}, and in {event.event_name} a {kind}")
    return types


def _is_common(field: Field) -> bool:
    return any(field.name == common.name for common in event_fields(ProcessEvent))
