# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/events.md says what the encoders do."""

from __future__ import annotations

import json
import struct
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from docs import events as docs
from pipeline.encode import Encoder
from pipeline.encode.names import ecs_names
from pipeline.encode.values import cut_marks
from pipeline.enrich.host import Host
from pipeline.gap import Gap
from probes.declared import struct_fields
from probes.event import HostEvent, ProcessEvent
from probes.fields import Ip, Opaque
from probes.registry import all_events
from probes.text import to_text
from tests.unit.pipeline.samples import made

KINDS: tuple[type[HostEvent], ...] = (*all_events(), Gap)
HOST = Host("host", "192.0.2.1", "boot", "machine", "6.1")


RESPONSE = bytes.fromhex("00018180000100010000000001610000010001c00c000100010000003c0004c0000201ff")
"""A DNS response with everything, a fault too: a byte behind its end."""

SOCKET = struct.pack("<4HI16s16s", 2, 1, 40_000, 443, 1, bytes(16), bytes(16))


def full(kind: type[HostEvent], **given: Any) -> HostEvent:
    """An event of `kind` that has a value in every field."""
    values: dict[str, Any] = {"flags": 0}
    for field in struct_fields(kind):
        if field.name in values:
            continue
        if field.name == "packet":
            values[field.name] = RESPONSE
        elif field.name == "socket":
            values[field.name] = SOCKET
        elif field.part is not None:
            values[field.name] = "2" if field.names.ecs_type == "long" else "text"
        elif field.python_type is int:
            values[field.name] = 2  # AF_INET among others
        elif field.python_type is str:
            values[field.name] = "text"
        elif field.tail is not None and field.tail.form == "addresses":
            values[field.name] = struct.pack("<I16x", 2)
        else:
            values[field.name] = bytes(16) if isinstance(field.wire, Ip | Opaque) else b"bytes"
    values |= given
    return made(kind, **values) if issubclass(kind, ProcessEvent) else kind(**values)


def encoded(event: HostEvent, schema: Any) -> dict[str, Any]:
    encoder = Encoder(run_id="run")
    encoder.set_host(HOST)
    document: dict[str, Any] = json.loads(encoder([event], schema, 0))
    return document


def names(document: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all leaves."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_page_is_up_to_date() -> None:
    """docs/events.md is what the declarations make of it; if not: .venv/bin/python -m docs.events"""
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.event_name)
def test_smith_names(kind: type[HostEvent]) -> None:
    """An event that has everything has exactly the smith fields that the page lists for its kind."""
    wanted = {name for field in docs.told(kind) for name in docs.smith_names(field)}
    wanted |= {smith for smith, _ecs, _doc in docs.ADDED}
    if issubclass(kind, ProcessEvent):
        wanted |= {smith for smith, _ecs, _doc in docs.ADDED_TO_PROCESSES}
    assert set(encoded(full(kind), "smith")) == wanted - {""}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.event_name)
def test_ecs_names(kind: type[HostEvent]) -> None:
    """An event that has everything has exactly the ecs fields that the page lists for its kind."""
    fields = docs.told(kind)
    wanted = {name for field in fields for name in ecs_names(kind, field)}
    wanted |= {name for _smith, ecs, _doc in docs.ADDED for name in ecs.split(", ")}
    wanted |= {name for name, _doc in docs.ONLY_ECS}
    if issubclass(kind, ProcessEvent):
        wanted |= {ecs for _smith, ecs, _doc in docs.ADDED_TO_PROCESSES}
    if not any(field.name == "result" for field in fields):
        wanted.remove("event.outcome")
    assert set(names(encoded(full(kind), "ecs"))) == wanted


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.event_name)
def test_marks_of_what_was_cut(kind: type[HostEvent]) -> None:
    """Each mark that the page lists is a NAME_truncated in smith, and is in hookline.truncated in ecs."""
    marks = [name for _bit, name in cut_marks(kind)]
    event = full(kind, flags=0xFFFF_FFFF)
    smith = encoded(event, "smith")
    assert [name.removesuffix("_truncated") for name in smith if name.endswith("_truncated")] == marks
    assert encoded(event, "ecs")["hookline"].get("truncated", []) == marks


def test_the_way_back_to_bytes() -> None:
    """The Python code on the page gives back the bytes that a text was made from."""
    code = docs.page().partition("    import re\n")[2].partition("\nArguments:")[0]
    scope: dict[str, Any] = {}
    exec("import re\n" + textwrap.dedent(code), scope)  # noqa: S102 - the page is ours
    for raw in (
        b"plain",
        b"r\xe9sum\xc3\xa9\n",
        b"\xff\xfe",
        "\uefe9".encode(),
        b"\xee\xbe",
        bytes(range(256)),
    ):
        assert scope["to_bytes"](to_text(raw)) == raw
