# SPDX-License-Identifier: GPL-2.0-or-later
"""Declarations as places on the wire: offsets, errors, fingerprints."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given

from probes.event import ProcessEvent
from probes.fields import Names, Tail, Variable, s32, u16, u32, u64
from probes.layout import fingerprint, layout
from tests.unit.probes import wire
from tests.unit.probes.declarations import any_declaration, declare, named, tail, variable

BASE = (("a", named(u32)), ("b", named(u32)), ("t", tail()))


def check_against_ctypes(event: type[ProcessEvent]) -> None:
    shape = layout(event)
    places = {member.name: member.offset for member in (*shape.header, *shape.body)}
    assert places == {name: wire.member(event, name)[0] for name in places}
    assert set(places) == {
        *(name for name, mark in wire.marks(event).items() if not isinstance(mark, Tail | Variable)),
        *(f"{name}_length" for name in wire.tail_names(event)),
    }
    assert shape.size == wire.fixed_size(event)
    assert [each.name for each in shape.tails] == wire.tail_names(event)


@pytest.mark.parametrize("event", wire.EVENTS)
def test_offsets_are_those_of_a_c_struct(event: type[ProcessEvent]) -> None:
    """Every member of every probe's record stands where C's rules of alignment put it."""
    check_against_ctypes(event)


@given(any_declaration())
def test_offsets_of_any_declaration(event: type[ProcessEvent]) -> None:
    """Whatever fields are declared, they stand where C's rules of alignment put them."""
    check_against_ctypes(event)


@pytest.mark.parametrize("event", wire.EVENTS)
def test_the_header_is_common(event: type[ProcessEvent]) -> None:
    """All records begin with the same header, of whole 8-byte words."""
    assert layout(event).header == layout(ProcessEvent).header
    assert layout(event).header_size == layout(ProcessEvent).size
    assert layout(event).header_size % 8 == 0


def test_each_tail_has_a_bit_of_its_own() -> None:
    """The bits that say what was cut differ, the environment's too."""
    shape = layout(declare(("s", tail()), ("t", tail()), environment=8))
    assert [shape.cut_bit(each.name) for each in shape.tails] == [1, 2, 4]


def test_a_field_without_a_sentence_is_refused() -> None:
    """A field that is declared without Names is an error that names it."""
    with pytest.raises(TypeError, match="bare is declared without Names"):
        layout(declare(("bare", u32)))


@pytest.mark.parametrize(
    "fields",
    [
        [("t", tail()), ("a", named(u32))],
        [("v", variable()), ("a", named(u32))],
        [("v", variable()), ("t", tail())],
    ],
)
def test_fields_out_of_order_are_refused(fields: list[tuple[str, Any]]) -> None:
    """Scalars, tails, variables: another order would hand values to the wrong fields, and is an error."""
    with pytest.raises(TypeError, match="Made_Up: scalars stand before tails, tails before variables"):
        layout(declare(*fields, environment=8))


def test_a_fingerprint_is_of_the_declaration() -> None:
    """The same declarations have the same 16 hex digits, in whatever order they are given."""
    other = declare(*BASE, name="other", number=8)
    assert fingerprint([declare(*BASE), other]) == fingerprint([other, declare(*BASE)])
    assert len(bytes.fromhex(fingerprint([other]))) == 8


@pytest.mark.parametrize(
    "changed",
    [
        declare(*BASE, number=8),
        declare(*BASE, name="renamed"),
        declare(*BASE, environment=8),
        declare(("a", named(u32)), ("b", named(s32)), ("t", tail())),
        declare(("a", named(u32)), ("b", named(u64)), ("t", tail())),
        declare(("a", named(u32)), ("t", tail())),
        declare(*BASE, ("u", tail())),
        declare(("a", named(u32)), ("b", named(u32)), ("t", tail(10))),
        declare(("a", named(u32)), ("b", named(u32)), ("u", tail())),
        declare(("a", named(u32)), ("b", named(u16)), ("c", named(u16)), ("t", tail())),
        declare(("b", named(u32)), ("a", named(u32)), ("t", tail())),
    ],
    ids=[
        "number",
        "name",
        "environment",
        "sign",
        "width",
        "gone",
        "tail",
        "limit",
        "tail name",
        "split",
        "swapped",
    ],
)
def test_any_change_on_the_wire_changes_the_fingerprint(changed: type[ProcessEvent]) -> None:
    """An old record that the new declaration would read otherwise has another fingerprint."""
    assert fingerprint([changed]) != fingerprint([declare(*BASE)])


def test_a_better_sentence_changes_no_fingerprint() -> None:
    """What only people and outputs read leaves old recordings readable."""
    better = Annotated[u32, Names("Better.", "a", "hookline.a", "long")]
    assert fingerprint([declare(("a", named(u32)))]) == fingerprint([declare(("a", better))])
