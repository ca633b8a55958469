# SPDX-License-Identifier: GPL-2.0-or-later
"""The ecs schema: nested JSON after the Elastic Common Schema, typed, unknown fields left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import gmtime, strftime

from pipeline.encode.nested import Leaf, nest, wrap
from pipeline.encode.smith import Encode
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
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.layout import Field, event_fields
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


def ecs_encoder(event: type[HostEvent], *, run_id: str, host: Host) -> Encode:
    """The encoder of one kind."""
    document = nest(_members(event, run_id, host))
    source = f"def encode(e, boot_offset):\n    return template % ({', '.join(document.values)})\n"
    names = {
        **namespace(absent=b""),
        "derived": derived_values(event, absent=b"", as_text=False),
        "template": document.template.encode("ascii"),
        "wrap": wrap,
        "known": quoted(_known, b""),
        "known_once": _known_once,
        "args": _args,
        "address_list": _address_list,
        "arguments": _arguments,
        "command_line": _command_line,
        "timestamp": timestamp,
        "cut": _cutter(event),
        "labels": {
            field.name: {number: quote(label) if label else b"" for number, label in field.names.labels.items()}
            for field in event_fields(event)
        },
    }
    exec(compile(source, f"<ecs encoder of {event.event_name}>", "exec"), names)  # noqa: S102 - from declarations alone
    encode: Encode = names["encode"]
    return encode


def _constant(text: str) -> Leaf:
    if not text or text == UNKNOWN:
        return Leaf("%s", ("b''",), optional=True)
    return Leaf(quote(text).decode("ascii").replace("%", "%%"))


def _id(prefix: str, *fields: str) -> Leaf:
    return Leaf(f'"{prefix}{"-%d" * len(fields)}"', tuple(f"e.{field}" for field in fields))


def _optional(expression: str) -> Leaf:
    return Leaf("%s", (expression,), optional=True)


def _members(event: type[HostEvent], run_id: str, host: Host) -> list[tuple[str, Leaf]]:
    """(dotted ECS name, value) in the order of output."""
    dataset = f"hookline.{event.dataset}"
    names = {field.name for field in event_fields(event)}
    members = [
        ("@timestamp", Leaf("%s", ("timestamp(e.time_ns + boot_offset)",))),
        ("ecs.version", _constant(ECS_VERSION)),
        ("event.id", _id(f"{run_id}-{event.data_type}", "cpu", "sequence")),
        ("event.kind", _constant("event")),
        ("event.module", _constant("hookline")),
        ("event.dataset", _constant(dataset)),
        ("event.category", Leaf(f'["{event.category}"]')),
        ("event.type", Leaf(f'["{event.action_type}"]')),
        ("event.action", _constant(event.event_name)),
        ("data_stream.type", _constant("logs")),
        ("data_stream.dataset", _constant(dataset)),
        ("data_stream.namespace", _constant("default")),
        ("host.hostname", _constant(host.hostname)),
        ("host.name", _constant(host.hostname)),
        ("host.id", _constant(host.machine_id)),
        ("host.ip", _constant(host.local_ip)),
        ("host.boot.id", _constant(host.boot_id)),
        ("hookline.data_type", Leaf(str(event.data_type))),
        ("hookline.truncated", _optional("(cut(e.flags) if e.flags else b'')")),
    ]
    if "result" in names:
        # EINPROGRESS is how a connection begins that nobody waits for.
        succeeded = "e.result >= 0 or e.result == -115"
        members.append(("event.outcome", Leaf('"%s"', (f"b'success' if {succeeded} else b'failure'",))))
    subject = "process"
    if issubclass(event, ProcessEvent):
        subject = event.subject
        members.append((f"{subject}.entity_id", _id(host.boot_id, "tgid", "start_time")))
        if subject == "process":
            members.append(("process.parent.entity_id", _id(host.boot_id, "ppid", "parent_start_time")))
        else:
            members.append(("process.entity_id", _id(host.boot_id, "child_tgid", "child_start_time")))
    common = {field.name for field in event_fields(ProcessEvent)}
    for field in event_fields(event):
        name = field.names.ecs
        if name is not None and field.name in common:
            name = _under(subject, name)
        if name is not None:
            members += _values(field, name)
    return members


def _under(subject: str, name: str) -> str | None:
    """`name` of the process, where the event's process is another's `subject`; None: nowhere to put it."""
    if subject == "process" or not name.startswith("process."):
        return name
    rest = name.removeprefix("process.")
    return None if rest.startswith("parent.") else f"{subject}.{rest}"


def _values(field: Field, name: str) -> list[tuple[str, Leaf]]:
    value = f"e.{field.name}"
    if field.tail is not None and field.tail.form == "argv":
        parent = name.rpartition(".")[0]
        return [
            (name, Leaf("%s", (f"args({value})",))),
            (f"{parent}.args_count", Leaf("%d", (f"len(arguments({value}))",))),
            (f"{parent}.command_line", _optional(f"command_line({value})")),
        ]
    if field.tail is not None and field.tail.form == "addresses":
        return [(name, _optional(f"address_list({value})"))]
    if field.boot_time:
        return [(name, _optional(f"(timestamp({value} + boot_offset) if {value} else b'')"))]
    if field.names.labels:
        labels = f"labels[{field.name!r}]"
        label = f"({labels}[{value}] if {value} in {labels} else quote(str({value})))"
        return [(name, Leaf("%s", (label,), optional="" in field.names.labels.values()))]
    if field.python_type is int:
        return [(name, Leaf("%d" if field.names.ecs_type == "long" else number_format(field), (value,)))]
    if field.python_type is str:
        return [(name, _optional(f"known[{value}]" if not field.unique else f"known_once({value})"))]
    return [(name, _optional(text_expression(field)))]


def _cutter(event: type[HostEvent]) -> Callable[[int], bytes]:
    marks = cut_marks(event)

    def cut(flags: int) -> bytes:
        names = [b'"%s"' % name.encode() for bit, name in marks if flags & bit]
        return b"[%s]" % b",".join(names) if names else b""

    return cut
