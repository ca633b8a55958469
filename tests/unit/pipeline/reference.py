# SPDX-License-Identifier: GPL-2.0-or-later
"""What both schemas say of an event, written down once more: slowly, field by field, without fragments or templates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pipeline.encode.ecs import ECS_VERSION
from pipeline.enrich.host import Host
from probes.declared import Field, event_fields
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.fields import Chars, Ip, Opaque
from probes.layout import layout
from probes.text import (
    address_text,
    addresses_text,
    cstring_text,
    ids_text,
    open_file_text,
    path_text,
    to_text,
    typed_text,
    unix_text,
)


def text(event: HostEvent, field: Field) -> str:
    """A text field's text; empty where nothing is known."""
    if field.derived is not None:
        return str(derived(event, field) or "")
    value = getattr(event, field.name)
    if isinstance(value, str):
        return "" if value == UNKNOWN else value
    if isinstance(field.wire, Chars):
        return cstring_text(value)
    if isinstance(field.wire, Ip):
        return address_text(getattr(event, field.wire.family), value)
    if isinstance(field.wire, Opaque):
        return ids_text(value)
    match field.tail.form if field.tail is not None else "name":
        case "unix":
            return unix_text(value)
        case "addresses":
            return ",".join(addresses_text(value))
        case "typed":
            return typed_text(value, getattr(event, f"{field.name}_metafied"))
        case "path":
            return path_text(value, getattr(event, f"{field.name}_walked"))
        case "open_file":
            return open_file_text(value, getattr(event, f"{field.name}_mode"), getattr(event, f"{field.name}_inode"))
    return to_text(value)


def derived(event: HostEvent, field: Field) -> Any:
    """A derived field's value; None where nothing is known."""
    assert field.derived is not None
    return field.derived.make(*(getattr(event, source) for source in field.derived.sources)).get(field.name)


def is_argv(field: Field) -> bool:
    return field.tail is not None and field.tail.form == "argv"


def cut(event: HostEvent) -> list[str]:
    """What of the event was cut, by its names in smith."""
    if not isinstance(event, ProcessEvent):
        return []
    shape = layout(type(event))
    tails = [tail for tail in shape.tails if event.flags & shape.cut_bit(tail.name)]
    return [tail.names.smith or tail.name.removesuffix("_path") for tail in tails]


def smith(event: HostEvent, run: str, host: Host, boot_offset: int) -> dict[str, str]:
    """The event in the smith schema."""
    told = {"data_type": str(event.data_type)}
    for field in event_fields(type(event)):
        name: str | None = field.names.smith
        value: Any = getattr(event, field.name, None)
        if name is None:
            continue
        if field.part is not None:
            shown = value or field.part.absent
            told |= {name: shown} if shown else {}
        elif field.derived is not None:
            found = derived(event, field)
            told[name] = UNKNOWN if found is None else str(found)
        elif field.python_type is int:
            told[name] = f"{value:016x}" if field.hex else str(value)
        elif is_argv(field):
            told[name] = to_text(value.replace(b"\0", b" "))
        elif field.unique:
            told[name] = value
        else:
            told[name] = text(event, field) or UNKNOWN
        if field.names.label is not None:
            told[field.names.label] = field.names.labels.get(value) or UNKNOWN
    told["time"] = str((event.time_ns + boot_offset) // 1_000_000)
    told["event_id"] = f"{run}-{event.data_type}-{event.cpu}-{event.sequence}"
    told |= {"local_ip": host.local_ip, "hostname": host.hostname}
    if isinstance(event, ProcessEvent):
        told["entity_id"] = f"{host.boot_id}-{event.tgid}-{event.start_time}"
    return told | {f"{name}_truncated": "1" for name in cut(event)}


def date(time_ns: int) -> str:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}Z"


def ecs(event: HostEvent, run: str, host: Host, boot_offset: int) -> dict[str, Any]:
    """The event in the ecs schema."""
    get: Callable[[str], Any] = partial(getattr, event)
    dataset = f"hookline.{event.dataset}"
    told: dict[str, Any] = {
        "@timestamp": date(event.time_ns + boot_offset),
        "ecs.version": ECS_VERSION,
        "event.id": f"{run}-{event.data_type}-{event.cpu}-{event.sequence}",
        "event.kind": "event",
        "event.module": "hookline",
        "event.dataset": dataset,
        "event.category": [event.category],
        "event.type": [event.action_type],
        "event.action": event.event_name,
        "data_stream.type": "logs",
        "data_stream.dataset": dataset,
        "data_stream.namespace": "default",
        "host.hostname": host.hostname,
        "host.name": host.hostname,
        "host.id": host.machine_id,
        "host.ip": host.local_ip,
        "host.boot.id": host.boot_id,
        "hookline.data_type": event.data_type,
        "hookline.truncated": cut(event),
    }
    fields = event_fields(type(event))
    if any(field.name == "result" for field in fields):
        told["event.outcome"] = "success" if get("result") >= 0 or get("result") == -115 else "failure"
    common, subject = set(), "process"
    if isinstance(event, ProcessEvent):
        common, subject = {field.name for field in event_fields(ProcessEvent)}, event.subject
        told[f"{subject}.entity_id"] = f"{host.boot_id}-{event.tgid}-{event.start_time}"
        if subject == "process":
            told["process.parent.entity_id"] = f"{host.boot_id}-{event.ppid}-{event.parent_start_time}"
        else:
            told["process.entity_id"] = f"{host.boot_id}-{get('child_tgid')}-{get('child_start_time')}"
    for field in fields:
        name = field.names.ecs
        if name is None:
            continue
        if field.name in common and subject != "process" and name.startswith("process."):
            if name.startswith("process.parent."):
                continue
            name = f"{subject}.{name.removeprefix('process.')}"
        told |= values(event, field, name, boot_offset)
    known = {name: value for name, value in told.items() if value not in ("", UNKNOWN, None)}
    return nested({name: value for name, value in known.items() if name != "hookline.truncated" or value})


def values(event: HostEvent, field: Field, name: str, boot_offset: int) -> dict[str, Any]:
    if field.derived is not None:
        made = derived(event, field)
        is_text = field.names.ecs_type == "keyword" and isinstance(made, int)
        return {name: str(made) if is_text else made}
    value = getattr(event, field.name)
    if field.part is not None:
        return {name: int(value) if value and field.names.ecs_type == "long" else value}
    if field.tail is not None and field.tail.form == "addresses":
        return {name: addresses_text(value)} if addresses_text(value) else {}
    if is_argv(field):
        parent = name.rpartition(".")[0]
        arguments = value.removesuffix(b"\0").split(b"\0") if value else []
        line = to_text(b" ".join(arguments))
        return {
            name: list(map(to_text, arguments)),
            f"{parent}.args_count": len(arguments),
            f"{parent}.command_line": line,
        }
    if field.boot_time:
        return {name: date(value + boot_offset)} if value else {}
    if field.names.labels:
        return {name: field.names.labels.get(value, str(value))}
    if field.python_type is int:
        quoted = f"{value:016x}" if field.hex else str(value)
        return {name: value if field.names.ecs_type == "long" else quoted}
    return {name: text(event, field)}


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        inner = root
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return root
