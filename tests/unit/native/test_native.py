# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules in C by themselves: what they refuse, that they leak nothing, and what is left to Python."""

from __future__ import annotations

import gc
import sys
from typing import Any

import msgspec
import pytest

from pipeline.encode import Encoder
from pipeline.encode.ecs import ecs_document
from pipeline.encode.smith import smith_document
from pipeline.encode.steps import steps_of
from pipeline.gap import Gap
from probes.decoder import Decoder, plan
from probes.event import HostEvent
from probes.process.execve import Execve
from probes.process.exit import Exit
from sinks.protocol import Schema
from tests.unit.pipeline.samples import HOST, RUN, made
from tests.unit.probes import wire

decoding = pytest.importorskip("probes.native", reason="no decoder in C was built")
encoding = pytest.importorskip("pipeline.encode.native", reason="no encoder in C was built")

PLAN: Any = plan(Execve)


DECODER: Any = Decoder(wire.EVENTS).in_c


def decode(data: bytes, records: Any) -> Any:
    return DECODER.decode(data, records, {59: {}, 60: {}}, lambda *_: None, lambda _: None)


@pytest.mark.parametrize(
    "wrong",
    [
        (*PLAN[:2], 4, *PLAN[3:]),
        (*PLAN[:3], (PLAN[2], 16, 24), *PLAN[4:]),
        (*PLAN[:3], (12, PLAN[2] - 7, 24), *PLAN[4:]),
        (*PLAN[:4], (PLAN[2] - 3,), *PLAN[5:]),
        (*PLAN[:4], (0,) * 17, *PLAN[5:]),
        (*PLAN[:5], -1, *PLAN[6:]),
        (*PLAN[:5], 99, *PLAN[6:]),
        *((*PLAN[:6], (("pid", *value),), PLAN[7]) for value in [
            (0, 0, 3, False), (0, PLAN[2] - 3, 4, False), (1, 0, 2, False), (2, 1, 0xFFFF_FFFF, False),
            (3, PLAN[2] + 1, 0, False), (4, 16, 0, False), (5, 0, 4, False), (-1, 0, 4, False),
        ]),
        (*PLAN[:6], (PLAN[6][0],) * 65, PLAN[7]),
        (*PLAN[:7], (PLAN[7][0],) * 65),
        (msgspec.defstruct("Tracked", ["pid"]), *PLAN[1:]),
    ],
)  # fmt: skip
def test_a_plan_that_leaves_the_record_is_refused(wrong: Any) -> None:
    """No plan makes the decoder look outside the fixed part, or at a tail that is not there."""
    with pytest.raises(ValueError, match="cannot be followed"):
        decoding.Decoder((wrong,))


@pytest.mark.parametrize(
    "wrong", [(*PLAN[:6], (("ppid", *PLAN[6][0][1:]),), PLAN[7]), (*PLAN[:7], (("data_type", ""),))]
)
def test_a_plan_fills_what_instances_hold(wrong: Any) -> None:
    """A field that is a property, or the class's own, has no place in an instance."""
    with pytest.raises(TypeError, match="do not hold"):
        decoding.Decoder((wrong,))


def test_plans_are_in_order() -> None:
    """A kind is found by halving, so kinds that are not in order are refused."""
    with pytest.raises(ValueError, match="order"):
        decoding.Decoder((plan(Exit), PLAN))


@pytest.mark.parametrize("place", [(-1, 4), (9, 1), (0, -1), (1 << 62, 1)])
def test_places_outside_the_data_are_refused(place: tuple[int, int]) -> None:
    """A record that does not begin in its span is an error of the caller."""
    with pytest.raises(ValueError, match="outside"):
        decode(bytes(8), [place])


@pytest.mark.parametrize("records", [[1], [(1,)], [[0, 8]], [("a", 1)]])
def test_places_are_pairs_of_numbers(records: Any) -> None:
    """Anything else than (offset, size) is an error of the caller."""
    with pytest.raises(TypeError):
        decode(bytes(8), records)


def test_events_are_made_with_exact_fields_only() -> None:
    """A writer takes its own class alone, and fields that instances hold."""
    writer = encoding.Writer(Exit, (), ((b"", 1, "pid", None, 0, False),))
    assert encoding.encode([made(Exit, pid=7)], {Exit: writer}) == b"7\n"
    with pytest.raises(TypeError, match="another class"):
        encoding.encode([made(Execve)], {Execve: writer})
    with pytest.raises(KeyError):
        encoding.encode([made(Execve)], {Exit: writer})
    for name in ("ppid", "data_type", "summary"):
        with pytest.raises(TypeError, match="do not hold"):
            encoding.Writer(Exit, (), ((b"", 1, name, None, 0, False),))


@pytest.mark.parametrize(
    "steps",
    [
        ((b"", 16, "pid", None, 0, False),),
        ((b"", -1, "pid", None, 0, False),),
        ((b"", 4, 0, None, 0, False),),
        ((b"", 4, -1, None, 0, False),),
        ((b"", 14, 0, None, 0, False),),
        ((b"", 15, 0, None, 0, False),),
        ((b"", 14, 0, None, 0, False),) * 9,
    ],
)
def test_steps_that_cannot_be_taken_are_refused(steps: Any) -> None:
    """No operation that is not there, no fragment without a source, every object closed, few of them at once."""
    with pytest.raises(ValueError, match="cannot be taken"):
        encoding.Writer(Exit, (), steps)


def test_what_functions_give_is_checked() -> None:
    """A function or a mapping that gives no bytes is an error, never a line."""
    for step in ((b"", 13, 0, lambda _: "text", 0, False), (b"", 3, "pid", {7: None}, 0, False)):
        with pytest.raises(TypeError, match="bytes are written"):
            encoding.encode([made(Exit, pid=7)], {Exit: encoding.Writer(Exit, (), (step,))})
    for fragments in (b"one", (), (None,)):
        writer = encoding.Writer(Exit, (("pid", {7: fragments}),), ((b"", 4, 0, None, 0, False),))
        with pytest.raises(TypeError):
            encoding.encode([made(Exit, pid=7)], {Exit: writer})


def test_assignments_are_those_of_slots() -> None:
    """Fields take any value, are let go of, and can be taken away; what is no field cannot be assigned."""

    class Plain(msgspec.Struct, gc=False):
        text: str = ""

    plain, value = decoding.plain_assignment(Plain)(), object()
    held = sys.getrefcount(value)
    plain.text = value
    assert plain.text is value
    plain.text = ""
    assert sys.getrefcount(value) == held
    del plain.text
    for name in ("other", "ppid", "data_type"):
        with pytest.raises(AttributeError):
            setattr(made(Execve), name, 1)


@pytest.mark.parametrize("wrong", [object, int, type("Plain", (), {}), msgspec.defstruct("Tracked", ["list"]), 5])
def test_assignments_of_other_classes_stay(wrong: Any) -> None:
    """Only classes that take no part in the collection of garbage are changed: others are tracked on assignment."""
    with pytest.raises(TypeError, match="gc=False"):
        decoding.plain_assignment(wrong)


@pytest.mark.parametrize("document", [smith_document, ecs_document])
def test_an_execution_is_written_without_python(document: Any) -> None:
    """What most events need is known to the writer: no function of Python is called for each."""
    steps = steps_of(document(Execve, run_id=RUN, host=HOST, boot_offset=0))
    assert not [step for step in steps if step.operation == 13]


def test_fragments_are_those_of_the_key() -> None:
    """Of more keys than are held, each has its own fragment again and again: as the same objects, as others, mixed."""
    made_of: list[Any] = []

    def find(key: Any) -> bytes:
        made_of.append(key)
        return repr(key).encode()

    fragment = (b"", 4, 0, None, -1, False)
    for fields in ("exe", ("exe", "exe_md5")):
        writer = encoding.Writer(Exit, ((fields, find),), (fragment,))
        events = [made(Exit, exe=b"%d" % (number % 50), exe_md5=f"{number % 30}") for number in range(600)]
        keys = [event.exe if fields == "exe" else (event.exe, event.exe_md5) for event in events]
        expected = b"".join(repr(key).encode() + b"\n" for key in keys)
        assert encoding.encode(events, {Exit: writer}) == expected
        assert encoding.encode([*events, *reversed(events)], {Exit: writer})[: len(expected)] == expected
        before = len(made_of)
        encoding.encode(events[:1] * 100, {Exit: writer})
        assert len(made_of) <= before + 1


@pytest.mark.parametrize("schema", ["smith", "ecs"])
def test_nothing_leaks(schema: Schema) -> None:
    """100,000 records, good and bad, and their lines leave no object behind."""
    good = [
        wire.record(Execve, {"sequence": at + 1, "pid": at, "argv": b"%d\0\xff" % at, "comm": bytes(16)})
        for at in range(500)
    ]
    span = wire.span([*good, good[0][:-1], good[1] + b"x", b"", bytes(8)])
    encoder = Encoder(run_id=RUN, in_c=True)
    encoder.set_host(HOST)

    def round_trip() -> None:
        events: list[HostEvent] = decode(span.data, span.records)
        assert len(events) == 500
        assert encoder(events, schema, 0).count(b"\n") == 500

    for _ in range(10):
        round_trip()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(200):
        round_trip()
    gc.collect()
    assert sys.getallocatedblocks() - before < 500


def test_a_gap_has_no_record() -> None:
    """An event that no probe makes is written as well, and its text in any characters."""
    gap = Gap(flags=0, cpu=1, sequence=1, time_ns=0, lost_kind=1, lost_cpu=1, first=1, last=1, cause='grün"\n')
    lines = []
    for in_c in (False, True):
        encoder = Encoder(run_id=RUN, in_c=in_c)
        encoder.set_host(HOST)
        lines.append(encoder([gap, made(Exit), gap], "smith", 0))
    assert lines[0] == lines[1]
