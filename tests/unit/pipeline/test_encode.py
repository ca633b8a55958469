# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds in both schemas: a line an event, legal JSON, the host's own text in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Batch, Needs
from pipeline.enrich.host import Host
from probes.declared import event_fields
from probes.event import HostEvent, ProcessEvent
from probes.process.execve import Execve
from probes.text import to_bytes, to_text
from sinks.protocol import Schema
from tests.unit.pipeline.samples import SECOND, batch_of, encoder, host_events, lines, made
from tests.unit.probes import wire

SCHEMAS: tuple[Schema, ...] = ("smith", "ecs")
schemas = pytest.mark.parametrize("schema", SCHEMAS)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object none of whose names comes twice."""
    assert len(dict(pairs)) == len(pairs), f"a name comes twice: {pairs}"
    return dict(pairs)


def not_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@schemas
@given(st.lists(host_events(), max_size=4), st.integers(-(1 << 62), 1 << 62))
def test_one_line_an_event(schema: Schema, events: list[HostEvent], offset: int) -> None:
    """Whatever the events hold, each is one line of ASCII, one JSON object, no name in it twice."""
    encoded = lines(events, schema, boot_offset=offset)
    assert len(encoded) == len(events)
    for line in encoded:
        assert isinstance(json.loads(line, object_pairs_hook=unique, parse_constant=not_json), dict)


HOSTILE = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([b'a"\\\n\r\x17\x1e\x00b\xff\xee\xbe\x80', b"%d%s%%%n", b"\xc3\x28\xed\xa0\x80", b"/" * 4000]),
)


@schemas
@given(HOSTILE, HOSTILE, HOSTILE)
def test_hostile_bytes_come_back(schema: Schema, exe: bytes, name: bytes, cwd: bytes) -> None:
    """Paths of any bytes come back from the JSON as the kernel sent them."""
    event = made(Execve, filename=name, run_path=cwd)
    event.exe = exe
    told = json.loads(lines([event], schema)[0])
    if schema == "smith":
        found = [told[key] if value else "" for key, value in {"exe": exe, "filename": name, "run_path": cwd}.items()]
    else:
        process, ours = told["process"], told["hookline"].get("process", {})
        found = [
            process.get("executable", ""),
            ours.get("filename", ""),
            process.get("working_directory", ""),
        ]
    assert list(map(to_bytes, found)) == [exe, name, cwd]


@schemas
@pytest.mark.parametrize("name", ["100%", "%s%d%n", "50%%", "a\"b'c\\", "grüße\n", "{0}", "b'x'"])
def test_hostnames_are_only_text(schema: Schema, name: str) -> None:
    """A host's name may look like a template, a quote or code: it arrives as it is."""
    host = Host(hostname=name, local_ip="192.0.2.7", boot_id="b", machine_id=name)
    told = json.loads(lines([made(Execve)], schema, host=host)[0])
    assert (told["hostname"] if schema == "smith" else told["host"]["name"]) == name


@schemas
def test_equal_texts_of_different_kinds_do_not_mix(schema: Schema) -> None:
    """A name that was encoded as one field is not taken for another field's: NUL ends a comm, not a path."""
    raw = b"abc\0def".ljust(16, b"\0")
    event = made(Execve, comm=raw, filename=raw, tty=raw)
    told = json.loads(lines([event, event], schema)[1])
    if schema == "smith":
        assert (told["comm"], told["filename"], told["tty_name"]) == ("abc", to_text(raw), "abc")
    else:
        assert (told["process"]["name"], told["hookline"]["process"]["filename"]) == ("abc", to_text(raw))


@schemas
@pytest.mark.parametrize("event", wire.EVENTS)
def test_what_was_cut_is_named(schema: Schema, event: type[ProcessEvent]) -> None:
    """Every tail that was cut is named, and only those; an event that is whole says nothing of it."""
    smith = {field.name: field.names.smith for field in event_fields(event)}
    names = [smith.get(name) or name.removesuffix("_path") for name in wire.tail_names(event)]
    for bits in range(1 << len(names)):
        told = json.loads(lines([made(event, flags=bits)], schema)[0])
        if schema == "smith":
            cut = [key.removesuffix("_truncated") for key in told if key.endswith("_truncated")]
        else:
            cut = told["hookline"].get("truncated", [])
        assert cut == [name for at, name in enumerate(names) if bits >> at & 1]


@schemas
def test_unknown_flags_are_ignored(schema: Schema) -> None:
    """Bits that no field has are no reason to fail or to claim that something was cut."""
    told = lines([made(Execve, flags=0xFFFF_0000)], schema)
    assert told == lines([made(Execve)], schema)


@schemas
def test_a_batch_is_encoded_as_its_lines(schema: Schema) -> None:
    """A batch gives the same lines as its events, made once however often it is asked."""
    events: list[HostEvent] = [made(Execve, pid=pid, time_ns=pid * SECOND) for pid in range(3)]
    batch = batch_of(*events)
    assert batch.encoded(schema).split(b"\n")[:-1] == lines(events, schema)
    assert batch.encoded(schema) is batch.encoded(schema)


@pytest.mark.parametrize(("argv", "pieces"), [(b"short", 1), (b"x" * 5000, 3)])
def test_pieces_of_a_batch(argv: bytes, pieces: int) -> None:
    """The pieces are the lines, as they were encoded where they are large, and as one where they are small."""
    batch = Batch(Needs(frozenset({"smith"}), events=False), 0)
    for _ in range(3):
        batch.add([made(Execve, argv=argv) for _ in range(10)], encoder())
    assert len(batch.pieces("smith")) == pieces
    assert b"".join(batch.pieces("smith")) == batch.encoded("smith")


@schemas
def test_no_events_are_no_lines(schema: Schema) -> None:
    """Nothing is encoded as nothing."""
    assert batch_of().encoded(schema) == b""
