# SPDX-License-Identifier: GPL-2.0-or-later
"""The smith schema: flat JSON, every value a string, as AgentSmith-HIDS wrote it.

One ``%`` operation an event fills a template that is made from the event's
declaration. What is not known is "-1"; what was cut has a NAME_truncated.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.encode.values import cut_marks, derived_values, namespace, number_format, quote, text_expression
from pipeline.enrich.host import Host
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.layout import event_fields

Encode = Callable[[HostEvent, int], bytes]
"""(event, boot offset in ns) -> one line without its end."""


def smith_encoder(event: type[HostEvent], *, run_id: str, host: Host) -> Encode:
    """The encoder of one kind."""
    literals = [f'"data_type":"{event.data_type}"']
    values: list[str] = []
    for field in event_fields(event):
        if field.names.smith is None:
            continue
        is_number = field.python_type is int
        literals.append(f'"{field.names.smith}":' + (number_format(field) if is_number else "%s"))
        values.append(f"e.{field.name}" if is_number else text_expression(field))
        if field.names.label is not None:
            literals.append(f'"{field.names.label}":%s')
            values.append(f"labels[{field.name!r}].get(e.{field.name}, unknown)")
    literals += [
        '"time":"%d"',
        f'"event_id":"{run_id}-{event.data_type}-%d-%d"',
        f'"local_ip":{_escaped(host.local_ip)}',
        f'"hostname":{_escaped(host.hostname)}',
    ]
    values += ["(e.time_ns + boot_offset) // 1000000", "e.cpu", "e.sequence"]
    if issubclass(event, ProcessEvent):
        literals.append(f'"entity_id":"{host.boot_id}-%d-%d"')
        values += ["e.tgid", "e.start_time"]
    template = "{" + ",".join(literals) + "%s}"
    values.append("cut(e.flags) if e.flags else b''")
    names = {
        **namespace(quote(UNKNOWN)),
        "derived": derived_values(event, absent=quote(UNKNOWN), as_text=True),
        "template": template.encode("ascii"),
        "cut": _cutter(cut_marks(event)),
        "unknown": quote(UNKNOWN),
        "labels": {
            field.name: {number: quote(label or UNKNOWN) for number, label in field.names.labels.items()}
            for field in event_fields(event)
        },
    }
    source = f"def encode(e, boot_offset):\n    return template % ({', '.join(values)})\n"
    exec(compile(source, f"<smith encoder of {event.event_name}>", "exec"), names)  # noqa: S102 - from declarations alone
    encode: Encode = names["encode"]
    return encode


def _escaped(text: str) -> str:
    return quote(text).decode("ascii").replace("%", "%%")


def _cutter(marks: tuple[tuple[int, str], ...]) -> Callable[[int], bytes]:
    def cut(flags: int) -> bytes:
        return "".join(f',"{name}_truncated":"1"' for bit, name in marks if flags & bit).encode("ascii")

    return cut
