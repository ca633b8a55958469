# SPDX-License-Identifier: GPL-2.0-or-later
"""The ecs schema: nested JSON after the Elastic Common Schema, typed, unknown fields left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import gmtime, strftime

from pipeline.encode.smith import Encode
from pipeline.encode.values import argv_text, cut_marks, namespace, quote, text_expression
from pipeline.enrich.host import Host
from probes.event import UNKNOWN, HostEvent, ProcessEvent
from probes.layout import Field, event_fields
from probes.text import to_text

ECS_VERSION = "9.0.0"

Tree = dict[str, "str | Tree"]
"""Nested names; a leaf is an expression that gives the member's text, or b'' where it is unknown."""


@lru_cache(64)
def _second(seconds: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)).encode("ascii")


def timestamp(time_ns: int) -> bytes:
    """ISO 8601 in UTC with nine digits of a second, quoted; `time_ns` since the epoch."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return b'"%s.%09dZ"' % (_second(seconds), nanoseconds)


def _known(text: str) -> bytes:
    return b"" if text == UNKNOWN or not text else quote(text)


def _command_line(argv: bytes) -> bytes:
    text = argv_text(argv.removesuffix(b"\0"))
    return quote(text) if text else b""


def _arguments(argv: bytes) -> list[bytes]:
    return argv.removesuffix(b"\0").split(b"\0") if argv else []


def _args(argv: bytes) -> bytes:
    return b"[%s]" % b",".join([quote(to_text(each)) for each in _arguments(argv)])


def ecs_encoder(event: type[HostEvent], *, run_id: str, host: Host) -> Encode:
    """The encoder of one kind."""
    tree: Tree = {}
    for name, expression in _members(event, run_id, host):
        _insert(tree, name, expression)
    body: list[str] = []
    root = _object(tree, body, [])
    source = "\n".join(
        [
            "def encode(e, boot_offset):",
            *(f"    {line}" for line in body),
            f"    return b'{{' + {root}[1:] + b'}}'",
        ]
    )
    names = {
        **namespace(absent=b""),
        "known": _known,
        "args": _args,
        "arguments": _arguments,
        "command_line": _command_line,
        "timestamp": timestamp,
        "cut": _cutter(event),
        "labels": {
            field.name: {number: quote(label) for number, label in field.names.labels.items()}
            for field in event_fields(event)
        },
    }
    exec(compile(source, f"<ecs encoder of {event.event_name}>", "exec"), names)  # noqa: S102 - from declarations alone
    encode: Encode = names["encode"]
    return encode


def _constant(text: str) -> str:
    return repr(quote(text)) if text and text != UNKNOWN else "b''"


def _id(prefix: str, *fields: str) -> str:
    literal = f'"{prefix}{"-%d" * len(fields)}"'
    return f"b'{literal}' % ({''.join(f'e.{field}, ' for field in fields)})"


def _members(event: type[HostEvent], run_id: str, host: Host) -> list[tuple[str, str]]:
    """(dotted ECS name, expression) in the order of output."""
    dataset = f"hookline.{event.dataset}"
    names = {field.name for field in event_fields(event)}
    outcome = (
        """(b'"success"' if e.result >= 0 or e.result == -115 else b'"failure"')"""
        if "result" in names
        else "b''"
    )
    members = [
        ("@timestamp", "timestamp(e.time_ns + boot_offset)"),
        ("ecs.version", _constant(ECS_VERSION)),
        ("event.id", _id(f"{run_id}-{event.data_type}", "cpu", "sequence")),
        ("event.kind", _constant("event")),
        ("event.module", _constant("hookline")),
        ("event.dataset", _constant(dataset)),
        ("event.category", repr(b'["%s"]' % event.category.encode())),
        ("event.type", repr(b'["%s"]' % event.action_type.encode())),
        ("event.action", _constant(event.event_name)),
        ("event.outcome", outcome),
        ("data_stream.type", _constant("logs")),
        ("data_stream.dataset", _constant(dataset)),
        ("data_stream.namespace", _constant("default")),
        ("host.hostname", _constant(host.hostname)),
        ("host.name", _constant(host.hostname)),
        ("host.id", _constant(host.machine_id)),
        ("host.ip", _constant(host.local_ip)),
        ("host.boot.id", _constant(host.boot_id)),
        ("hookline.data_type", repr(b"%d" % event.data_type)),
        ("hookline.truncated", "(cut(e.flags) if e.flags else b'')"),
    ]
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
            members += _expressions(field, name)
    return members


def _under(subject: str, name: str) -> str | None:
    """`name` of the process, where the event's process is another's `subject`; None: nowhere to put it."""
    if subject == "process" or not name.startswith("process."):
        return name
    rest = name.removeprefix("process.")
    return None if rest.startswith("parent.") else f"{subject}.{rest}"


def _expressions(field: Field, name: str) -> list[tuple[str, str]]:
    value = f"e.{field.name}"
    if field.tail is not None and field.tail.form == "argv":
        parent = name.rpartition(".")[0]
        return [
            (name, f"args({value})"),
            (f"{parent}.args_count", f"b'%d' % len(arguments({value}))"),
            (f"{parent}.command_line", f"command_line({value})"),
        ]
    if field.boot_time:
        return [(name, f"(timestamp({value} + boot_offset) if {value} else b'')")]
    if field.names.labels:
        return [(name, f"(labels[{field.name!r}].get({value}) or quote(str({value})))")]
    if field.python_type is int:
        literal = "%d" if field.names.ecs_type == "long" else '"%d"'
        return [(name, f"b'{literal}' % {value}")]
    if field.python_type is str:
        return [(name, f"known({value})")]
    return [(name, text_expression(field))]


def _insert(tree: Tree, name: str, expression: str) -> None:
    *groups, leaf = name.split(".")
    for group in groups:
        inner = tree.setdefault(group, {})
        if isinstance(inner, str):
            raise TypeError(f"the ECS name {name} lies below a field of its own")
        tree = inner
    if leaf in tree:
        raise TypeError(f"the ECS name {name} is used twice")
    tree[leaf] = expression


def _object(tree: Tree, body: list[str], path: list[str]) -> str:
    """Write the code that builds one object's members, each with a comma before it; gives their variable."""
    parts: list[str] = []
    for name, inner in tree.items():
        key = f',"{name}":'
        if isinstance(inner, str):
            # A constant or a number is always there.
            if inner.startswith("b'") and inner != "b''":
                parts.append(f"b'{key}{inner[2:]}")
            elif inner != "b''":
                variable = "_".join(["v", *path, name.replace("@", "at_")])
                body.append(f"{variable} = {inner}")
                parts.append(f"(b'{key}' + {variable} if {variable} else b'')")
        else:
            members = _object(inner, body, [*path, name])
            parts.append(f"(b'{key}{{' + {members}[1:] + b'}}' if {members} else b'')")
    variable = "_".join(["o", *path])
    body.append(f"{variable} = b''.join(({', '.join(parts)},))")
    return variable


def _cutter(event: type[HostEvent]) -> Callable[[int], bytes]:
    marks = cut_marks(event)

    def cut(flags: int) -> bytes:
        names = [b'"%s"' % name.encode() for bit, name in marks if flags & bit]
        return b"[%s]" % b",".join(names) if names else b""

    return cut
