# SPDX-License-Identifier: GPL-2.0-or-later
"""The encoders against a slow one that knows no fragments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.event import HostEvent, ProcessEvent
from probes.process.execve import Execve
from sinks.protocol import Schema
from tests.unit.pipeline import reference
from tests.unit.pipeline.samples import ENRICHMENTS, HOST, RUN, SECOND, host_events, lines, made
from tests.unit.probes import wire

REFERENCES: dict[Schema, Callable[..., dict[str, Any]]] = {"smith": reference.smith, "ecs": reference.ecs}
schemas = pytest.mark.parametrize("schema", REFERENCES)

OFFSETS = st.sampled_from([0, 1_700_000_000 * SECOND])
"""Few, because an offset is remembered with what was made with it."""

LATEST = 8_000_000_000 * SECOND


def check(events: list[HostEvent], schema: Schema, offset: int) -> None:
    told = [json.loads(line) for line in lines(events, schema, boot_offset=offset)]
    assert told == [REFERENCES[schema](event, RUN, HOST, offset) for event in events]


def in_time(event: HostEvent) -> bool:
    """Whether Python's dates reach to all times of the event."""
    times = [getattr(event, name, 0) for name in ("time_ns", "start_time", "parent_start_time", "child_start_time")]
    return max(times) < LATEST


@schemas
@given(st.lists(host_events().filter(in_time), max_size=4), OFFSETS)
def test_any_events_read_the_same(schema: Schema, events: list[HostEvent], offset: int) -> None:
    """Whatever a record holds and whichever enrichments know it, every member has the value that it had before."""
    check(events, schema, offset)


SMALL = st.integers(0, 1)


@st.composite
def relatives(draw: st.DrawFn) -> list[ProcessEvent]:
    """Events that share most of their pieces and differ in any of them."""
    event = draw(wire.any_event())
    first, second = draw(wire.payloads(event)), draw(wire.payloads(event))
    known = [draw(ENRICHMENTS), draw(ENRICHMENTS)]
    mixtures = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(first, SMALL)), min_size=2, max_size=5))
    return [
        made(event, **{name: (first, second)[take][name] for name, take in mixture.items()}, **known[draw(SMALL)])
        for mixture in mixtures
    ]


@schemas
@given(relatives().filter(lambda events: all(map(in_time, events))), OFFSETS)
def test_what_is_remembered_is_of_the_same_bytes(schema: Schema, events: list[HostEvent], offset: int) -> None:
    """Events that are alike in some fields and not in others are never told with each other's values."""
    check(events, schema, offset)
    check(events[::-1], schema, offset)


@schemas
def test_more_pieces_than_are_remembered(schema: Schema) -> None:
    """Beyond what is remembered, and of pieces too long for that, every event still has its own values."""
    events: list[HostEvent] = [
        made(Execve, ppid=at, run_path=b"/%d" % at, filename=b"/f" * (at % 600), exe=b"/bin/%d" % at, argv=b"%d\0" % at)
        for at in range(2500)
    ]
    check(events, schema, 0)
    check(events, schema, 0)
