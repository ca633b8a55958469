# SPDX-License-Identifier: GPL-2.0-or-later
"""The smith schema: flat JSON, every value a string, as AgentSmith-HIDS wrote it.

What is not known is "-1"; what was cut has a NAME_truncated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.encode.document import Document, Leaf, Member, document
from pipeline.encode.sources import source_of, sources_of
from pipeline.encode.values import cut_marks, derived_values, namespace, number_format, quote, text_expression
from pipeline.enrich.host import Host
from probes.declared import event_fields
from probes.event import UNKNOWN, HostEvent, ProcessEvent


def smith_document(
    event: type[HostEvent], *, run_id: str, host: Host, boot_offset: int, without: frozenset[str] = frozenset()
) -> Document:
    """The lines of one kind; `boot_offset` in ns; `without` the fields of these names."""
    scope = {
        **namespace(event, quote(UNKNOWN)),
        "json_derived": derived_values(event, absent=quote(UNKNOWN), as_text=True),
        "cut": _cutter(cut_marks(event)),
        "boot_offset": boot_offset,
    }
    return document(
        f"{event.event_name} in smith",
        _members(event, run_id, host, without),
        sources_of(event, without),
        scope,
        more="(cut(e.flags) if e.flags else b'')",
    )


def _members(event: type[HostEvent], run_id: str, host: Host, without: frozenset[str]) -> Iterator[Member]:
    yield Member("data_type", Leaf(f'"{event.data_type}"'))
    sources = sources_of(event, without)
    for field in event_fields(event):
        if field.names.smith is None or field.name in without:
            continue
        source = source_of(field, sources)
        at: Callable[[str], str] = str if source else "e.{}".format
        value = at(field.name)
        if field.part is not None:
            absent = field.part.absent
            part = f"json_part({value}{f' or {absent!r}' * bool(absent)})"
            yield Member(field.names.smith, Leaf("%s", (part,), optional=not absent), source)
            continue
        text = (
            Leaf(number_format(field), (value,))
            if field.python_type is int
            else Leaf("%s", (text_expression(field, at),))
        )
        yield Member(field.names.smith, text, source)
        if field.names.label is not None:
            label = f"json_labels[{field.name!r}].get({value}, json_absent)"
            yield Member(field.names.label, Leaf("%s", (label,)), source)
    yield Member("time", Leaf('"%d"', ("(e.time_ns + boot_offset) // 1000000",)))
    yield Member("event_id", Leaf(f'"{run_id}-{event.data_type}-%d-%d"', ("e.cpu", "e.sequence")))
    yield Member("local_ip", Leaf(_escaped(host.local_ip)))
    yield Member("hostname", Leaf(_escaped(host.hostname)))
    if issubclass(event, ProcessEvent):
        yield Member("entity_id", Leaf(f'"{host.boot_id}-%d-%d"', ("e.tgid", "e.start_time")))


def _escaped(text: str) -> str:
    return quote(text).decode("ascii").replace("%", "%%")


def _cutter(marks: tuple[tuple[int, str], ...]) -> Callable[[int], bytes]:
    def cut(flags: int) -> bytes:
        return "".join(f',"{name}_truncated":"1"' for bit, name in marks if flags & bit).encode("ascii")

    return cut
