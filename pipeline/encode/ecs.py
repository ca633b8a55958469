# SPDX-License-Identifier: GPL-2.0-or-later
"""The ecs schema: nested JSON after the Elastic Common Schema, typed, unknown fields left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from time import gmtime, strftime

from pipeline.encode.document import Document, Leaf, Member, document
from pipeline.encode.sources import source_of, sources_of
from pipeline.encode.values import (
    argv_text,
    cut_marks,
    derived_values,
    namespace,
    number_format,
    quote,
    quoted,
    text_expression,
)
from pipeline.enrich.host import Host
from probes.declared import Field, event_fields
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.text import addresses_text, to_text

ECS_VERSION = "9.0.0"


@lru_cache(64)
def _second(seconds: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)).encode("ascii")


def timestamp(time_ns: int) -> bytes:
    """ISO 8601 in UTC with nine digits of a second, quoted; `time_ns` since the epoch."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return b'"%s.%09dZ"' % (_second(seconds), nanoseconds)


def _known(text: str) -> str:
    return "" if text == UNKNOWN else text


def _known_once(text: str) -> bytes:
    return quote(text) if text and text != UNKNOWN else b""


def _command_line(argv: bytes) -> bytes:
    text = argv_text(argv.removesuffix(b"\0"))
    return quote(text) if text else b""


def _address_list(raw: bytes) -> bytes:
    """JSON of what `addresses_text` gives: letters, digits, dots and colons."""
    found = addresses_text(raw)
    return b'["%s"]' % '","'.join(found).encode("ascii") if found else b""


def _arguments(argv: bytes) -> list[bytes]:
    return argv.removesuffix(b"\0").split(b"\0") if argv else []


def _args(argv: bytes) -> bytes:
    return b"[%s]" % b",".join([quote(to_text(each)) for each in _arguments(argv)])


def ecs_document(
    event: type[HostEvent], *, run_id: str, host: Host, boot_offset: int, without: frozenset[str] = frozenset()
) -> Document:
    """The lines of one kind; `boot_offset` in ns; `without` the fields of these names."""
    scope = {
        **namespace(event, absent=b""),
        "json_known": quoted(_known, b""),
        "json_known_once": _known_once,
        "json_args": _args,
        "json_address_list": _address_list,
        "json_derived": derived_values(event, absent=b"", as_text=False),
        "json_command_line": _command_line,
        "json_time": timestamp,
        "arguments": _arguments,
        "boot_offset": boot_offset,
        "cut": _cutter(event),
    }
    members = _members(event, run_id, host, without)
    return document(f"{event.event_name} in ecs", members, sources_of(event, without), scope)


def _constant(text: str) -> Leaf:
    if not text or text == UNKNOWN:
        return Leaf("%s", ("b''",), optional=True)
    return Leaf(quote(text).decode("ascii").replace("%", "%%"))


def _optional(expression: str) -> Leaf:
    return Leaf("%s", (expression,), optional=True)


def _members(event: type[HostEvent], run_id: str, host: Host, without: frozenset[str]) -> Iterator[Member]:
    """In the order of output."""
    sources = sources_of(event, without)
    fields = {field.name: field for field in event_fields(event) if field.name not in without}
    yield Member("@timestamp", Leaf("%s", ("json_time(e.time_ns + boot_offset)",)))
    yield Member("ecs.version", _constant(ECS_VERSION))
    yield Member("event.id", Leaf(f'"{run_id}-{event.data_type}-%d-%d"', ("e.cpu", "e.sequence")))
    yield from _constants(event, host)
    yield Member("hookline.truncated", _optional("(cut(e.flags) if e.flags else b'')"))
    if "result" in fields:
        source = source_of(fields["result"], sources)
        result = _value("result", source)
        # EINPROGRESS is how a connection begins that nobody waits for.
        outcome = f"b'success' if {result} >= 0 or {result} == -115 else b'failure'"
        yield Member("event.outcome", Leaf('"%s"', (outcome,)), source)
    subject = "process"
    if issubclass(event, ProcessEvent):
        subject = event.subject
        ids = {subject: ("tgid", "start_time")}
        ids |= {"process.parent": ("ppid", "parent_start_time")} if subject == "process" else {}
        ids |= {"process": ("child_tgid", "child_start_time")} if subject != "process" else {}
        for whose, (tgid, start) in ids.items():
            source = source_of(fields[tgid], sources)
            values = (_value(tgid, source), _value(start, source))
            yield Member(f"{whose}.entity_id", Leaf(f'"{host.boot_id}-%d-%d"', values), source)
    common = {field.name for field in event_fields(ProcessEvent)}
    for field in fields.values():
        name = field.names.ecs
        if name is not None and field.name in common:
            name = _under(subject, name)
        if name is not None:
            yield from _told(field, name, source_of(field, sources))


def _constants(event: type[HostEvent], host: Host) -> Iterator[Member]:
    dataset = f"hookline.{event.dataset}"
    yield Member("event.kind", _constant("event"))
    yield Member("event.module", _constant("hookline"))
    yield Member("event.dataset", _constant(dataset))
    yield Member("event.category", Leaf(f'["{event.category}"]'))
    yield Member("event.type", Leaf(f'["{event.action_type}"]'))
    yield Member("event.action", _constant(event.event_name))
    yield Member("data_stream.type", _constant("logs"))
    yield Member("data_stream.dataset", _constant(dataset))
    yield Member("data_stream.namespace", _constant("default"))
    yield Member("host.hostname", _constant(host.hostname))
    yield Member("host.name", _constant(host.hostname))
    yield Member("host.id", _constant(host.machine_id))
    yield Member("host.ip", _constant(host.local_ip))
    yield Member("host.boot.id", _constant(host.boot_id))
    yield Member("hookline.data_type", Leaf(str(event.data_type)))


def _under(subject: str, name: str) -> str | None:
    """`name` of the process, where the event's process is another's `subject`; None: nowhere to put it."""
    if subject == "process" or not name.startswith("process."):
        return name
    rest = name.removeprefix("process.")
    return None if rest.startswith("parent.") else f"{subject}.{rest}"


def _value(name: str, source: str) -> str:
    return name if source else f"e.{name}"


def _told(field: Field, name: str, source: str) -> Iterator[Member]:
    value = _value(field.name, source)
    if field.tail is not None and field.tail.form == "argv":
        parent = name.rpartition(".")[0]
        yield Member(name, Leaf("%s", (f"json_args({value})",)), source)
        yield Member(f"{parent}.args_count", Leaf("%d", (f"len(arguments({value}))",)), source)
        yield Member(f"{parent}.command_line", _optional(f"json_command_line({value})"), source)
    else:
        yield Member(name, _leaf(field, value, source), source)


def _leaf(field: Field, value: str, source: str) -> Leaf:
    if field.tail is not None and field.tail.form == "addresses":
        return _optional(f"json_address_list({value})")
    if field.part is not None:
        is_number = field.names.ecs_type == "long"
        return _optional(f"{value}.encode('ascii')" if is_number else f"json_part({value})")
    if field.boot_time:
        return _optional(f"(json_time({value} + boot_offset) if {value} else b'')")
    if field.names.labels:
        labels = f"json_labels[{field.name!r}]"
        label = f"({labels}[{value}] if {value} in {labels} else json_quote(str({value})))"
        return Leaf("%s", (label,), optional="" in field.names.labels.values())
    if field.python_type is int:
        return Leaf("%d" if field.names.ecs_type == "long" else number_format(field), (value,))
    if field.python_type is str:
        return _optional(f"json_known[{value}]" if not field.unique else f"json_known_once({value})")
    return _optional(text_expression(field, lambda other: _value(other, source)))


def _cutter(event: type[HostEvent]) -> Callable[[int], bytes]:
    marks = cut_marks(event)

    def cut(flags: int) -> bytes:
        names = [b'"%s"' % name.encode() for bit, name in marks if flags & bit]
        return b"[%s]" % b",".join(names) if names else b""

    return cut
