# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes docs/events.md from the event declarations: ``.venv/bin/python -m docs.events``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.encode.ecs import ECS_VERSION
from pipeline.encode.names import ecs_names
from pipeline.encode.values import cut_marks
from pipeline.gap import Gap
from probes.declared import Field, event_fields
from probes.event import HostEvent, ProcessEvent
from probes.fields import Chars, Ip, Opaque, Scalar
from probes.probe import Form, Hook, Probe
from probes.registry import all_probes
from probes.text import to_text

PAGE = Path(__file__).with_name("events.md")

_HEAD = """\
<!-- Made by `.venv/bin/python -m docs.events` from the event declarations. Do not edit. -->

# Events

Each event is one JSON object, in one of two schemas that a sink chooses:

- **smith**: flat, with the names of AgentSmith-HIDS. Every value is a string; what is not known is
  `"-1"`. Of a process in no container, or no pod, the fields that begin so are left out.
- **ecs**: nested after the Elastic Common Schema {version}, typed. What is not known is left out.

Below, "type" is how the kernel side sends a field: an integer (`u` unsigned, `s` signed, with its bits),
`char[N]` (padded with NULs), an address, or at most so many bytes; `enrichment` is what the collector
adds. A time in ns since boot is a date in ecs. Fields that only serve to make others (the executable's
device and times, say) are not listed.
"""

ADDED: Sequence[tuple[str, str, str]] = (
    ("data_type", "hookline.data_type", "Number of the kind."),
    ("time", "@timestamp", "When it happened: smith in ms since the epoch, ecs in UTC with nanoseconds."),
    (
        "event_id",
        "event.id",
        "Run of the collector, kind, CPU, sequence number: RUN-KIND-CPU-SEQUENCE. Unique. CPU is as `hookline.cpu`.",
    ),
    ("local_ip", "host.ip", "Address of this host that traffic to other networks leaves from."),
    ("hostname", "host.hostname, host.name", "Name of this host."),
)
ADDED_TO_PROCESSES: Sequence[tuple[str, str, str]] = (
    (
        "entity_id",
        "process.entity_id",
        "The process beyond the reuse of its id: boot id, process id, start in ns since boot.",
    ),
    ("", "process.parent.entity_id", "The same of its parent."),
)
ONLY_ECS: Sequence[tuple[str, str]] = (
    ("ecs.version", "Version of the Elastic Common Schema."),
    ("event.kind", "`event`."),
    ("event.module", "`hookline`."),
    ("event.dataset", "`hookline.` and process, network, file or agent."),
    ("event.category", "A list of one; see each kind."),
    ("event.type", "A list of one; see each kind."),
    ("event.action", "Name of the kind."),
    (
        "event.outcome",
        "`success` or `failure`, in kinds that have a result. A connection under way is a success.",
    ),
    ("data_stream.type", "`logs`."),
    ("data_stream.dataset", "As `event.dataset`."),
    ("data_stream.namespace", "`default`."),
    ("host.id", "Content of /etc/machine-id."),
    ("host.boot.id", "Boot id of the kernel."),
)

_TEXT = """\
## Text and bytes

Paths, arguments and names of a Linux host are bytes without a character set. Output is always ASCII
JSON, one object a line: all else is escaped, so no byte of the host can break a line or forge a field.
Bytes that are valid UTF-8 become that text. Any other byte becomes the private-use code point `U+EF00`
plus the byte (`U+EF80` to `U+EFFF`), and so does each byte of a name that itself holds one of these code
points. The mapping is one to one, so it can be undone, and every JSON parser accepts the result, which
cannot be said of lone surrogates.

    bytes of the file name   {raw}
    in the JSON              {text}

The bytes again, in Python:

    import re

    def to_bytes(text: str) -> bytes:
        runs = re.split("([\\uef80-\\uefff]+)", text)
        return b"".join(
            bytes(ord(char) - 0xEF00 for char in run) if number % 2 else run.encode()
            for number, run in enumerate(runs)
        )

Arguments: smith joins them, each followed by a space; ecs has them as the list `args`, beside
`args_count` and `command_line`. Only the list tells an argument with a space in it from two.
"""

_CUT = """\
## What was cut

Paths, arguments and the environment have a limit, which stands with their type. One that was longer, or
that could not be read whole, has a mark: in smith a further field with the value `"1"`, such as
`argv_truncated`, in ecs its name in the list `hookline.truncated`. The marks that a kind can have are
listed with it.

The mark `socket` of an execution or a new file (`socket_truncated`) is frequent, and means something else:
the search for the connected socket behind the process ended before it had looked at every descriptor of the
process, of its pipeline and of its ancestors. Its steps are bounded (probes/process/socket_owner.h). If no
socket is told with it, there may be one nevertheless.
"""

_GAP = """\
The kernel numbers the events of each kind on each CPU, from 1, before it tries to put them into the ring
buffer. So every loss leaves a hole in the numbers, and each hole becomes a gap event, which stands
before the next event of that kind and CPU; a hole at the very end is told when the collector stops.
`event_id` ends with the CPU and the number, so the reader of an output can find the holes without the
collector's help.
"""


def told(event: type[HostEvent]) -> list[Field]:
    """The fields that a schema has a name for."""
    return [field for field in event_fields(event) if field.names.smith or field.names.ecs]


def own(event: type[HostEvent]) -> list[Field]:
    """The fields that `event` alone has."""
    common = {field.name for field in event_fields(ProcessEvent)} - set(event.renamed)
    return [field for field in told(event) if field.name not in common]


def smith_names(field: Field) -> list[str]:
    """Every name under which `field` stands in smith."""
    return [name for name in (field.names.smith, field.names.label) if name]


def _type(field: Field) -> str:
    match field.wire:
        case Scalar(ctype=ctype):
            return ctype
        case Chars(size=size):
            return f"char[{size}]"
        case Ip():
            return "address"
        case Opaque(size=size):
            return f"{size // 4} x u32"
    if field.tail is not None:
        what = {"argv": "arguments", "addresses": "addresses", "open_file": "name of an open file"}.get(
            field.tail.form, "bytes"
        )
        return f"{what}, {field.tail.limit:,}"
    if field.variable is not None:
        return "from the environment"
    if field.derived is not None:
        return f"made from `{field.derived.sources[0]}`"
    return "enrichment"


def _meaning(field: Field) -> str:
    labels = ", ".join(f"{number} {label}" for number, label in field.names.labels.items() if label)
    where = f"ecs, {field.names.label}" if field.names.label else "ecs"
    return field.names.doc + (f" {where}: {labels}." if labels else "")


def _code(*names: str | None) -> str:
    return ", ".join(f"`{name}`" for name in names if name) or "-"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _fields(event: type[HostEvent], fields: Iterable[Field]) -> Iterator[str]:
    rows = (
        (_code(*smith_names(field)), _code(*ecs_names(event, field)), _type(field), _meaning(field)) for field in fields
    )
    return _table(("smith", "ecs", "type", "meaning"), rows)


def _sentence(event: type[HostEvent]) -> str:
    return " ".join(inspect.cleandoc(event.__doc__ or "").split("\n\n", maxsplit=1)[0].split())


def _kinds(events: Iterable[type[HostEvent]]) -> Iterator[str]:
    rows = ((str(event.data_type), f"[{event.event_name}](#{event.event_name})", _sentence(event)) for event in events)
    return _table(("data_type", "kind", "when"), rows)


def _common() -> Iterator[str]:
    yield "## In every event\n"
    added = [(_code(smith), ", ".join(map(_code, ecs.split(", "))), doc) for smith, ecs, doc in ADDED]
    only = [("-", _code(ecs), doc) for ecs, doc in ONLY_ECS]
    yield from _table(("smith", "ecs", "meaning"), [*added, *only])
    yield from _fields(HostEvent, told(HostEvent))
    yield "## In every event of a process\n"
    yield "The process that caused the event, as the kernel saw it at that moment.\n"
    more = ((_code(smith), _code(ecs), doc) for smith, ecs, doc in ADDED_TO_PROCESSES)
    yield from _table(("smith", "ecs", "meaning"), more)
    common = {field.name for field in told(HostEvent)}
    yield from _fields(ProcessEvent, [field for field in told(ProcessEvent) if field.name not in common])


def _kind(event: type[HostEvent]) -> Iterator[str]:
    yield f"## {event.event_name}\n"
    yield f"`data_type` {event.data_type}. {_sentence(event)}\n"
    yield f"ecs: `event.category` {event.category}, `event.type` {event.action_type}.\n"


def _at(hook: Hook) -> str:
    helpers = _code(*(f"bpf_{helper}()" for helper in hook.helpers))
    return _code(hook.at) + (f" with {helpers}" if hook.helpers else "")


def _form(form: Form, *, alone: bool) -> Iterator[str]:
    if not alone:
        yield f"### {form.name}\n"
    hooks = (
        (
            hook.sees,
            _at(hook),
            "the probe runs and does not see this"
            if hook.optional
            else "the probe does not run"
            if alone
            else "this form is not taken",
        )
        for hook in form.hooks
    )
    yield from _table(("sees", "hook", "without it"), hooks)
    if form.misses:
        yield f"Even with all of them it does not see: {form.misses}.\n"


def _probe(probe: Probe) -> Iterator[str]:
    event = probe.event
    yield from _kind(event)
    if event.subject != "process":
        yield (
            f"In ecs, the process that caused the event stands under `{event.subject}` here: what is "
            f"`process.name` elsewhere is `{event.subject}.name`. The parent of that process is left out, "
            "and `process.entity_id` is the child's.\n"
        )
    if not probe.default:
        yield 'It is loaded only where it is named, or by "all".\n'
    if len(probe.forms) > 1:
        yield f"Forms, best first: {_code(*(form.name for form in probe.forms))}; the kernel decides.\n"
    for form in probe.forms:
        yield from _form(form, alone=len(probe.forms) == 1)
    yield from _fields(event, own(event))
    marks = [name for _bit, name in cut_marks(event)]
    if marks:
        yield f"What may be cut: {_code(*marks)}.\n"


def page() -> str:
    """The whole page."""
    probes = sorted(all_probes().values(), key=lambda probe: probe.event.data_type)
    raw = b"r\xe9sum\xc3\xa9\n"
    text = json.dumps(to_text(raw))
    parts = [_HEAD.format(version=ECS_VERSION.rpartition(".")[0])]
    parts += _kinds((*(probe.event for probe in probes), Gap))
    parts += [_TEXT.replace("{raw}", repr(raw)[2:-1]).replace("{text}", text), _CUT]
    parts += _common()
    for probe in probes:
        parts += _probe(probe)
    parts += [*_kind(Gap), _GAP, *_fields(Gap, own(Gap))]
    return "\n".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
