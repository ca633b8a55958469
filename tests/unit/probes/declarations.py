# SPDX-License-Identifier: GPL-2.0-or-later
"""Event classes that no probe has, for tests of what a declaration may say."""

from __future__ import annotations

import types
from typing import Annotated, Any

from hypothesis import strategies as st

from probes.event import ProcessEvent
from probes.fields import Chars, Ip, Names, Own, Tail, Variable, s32, s64, u8, u16, u32, u64

SCALARS: tuple[Any, ...] = (u8, u16, u32, u64, s32, s64)
WIRES = st.one_of(
    st.sampled_from(SCALARS),
    st.integers(1, 17).map(lambda size: Annotated[bytes, Chars(size)]),
    st.just(Annotated[bytes, Ip("family")]),
)
TAILS = st.integers(1, 4096).map(lambda limit: Annotated[bytes, Tail(limit)])


def named(annotation: Any) -> Any:
    """`annotation` with a sentence."""
    return Annotated[annotation, Names("Made up.")]


def tail(limit: int = 9) -> Any:
    """A tail with a sentence."""
    return named(Annotated[bytes, Tail(limit)])


def variable(name: str = "HOME") -> Any:
    """A variable of the environment with a sentence."""
    return named(Annotated[bytes, Variable(name)])


def declare(*fields: tuple[str, Any], name: str = "made_up", number: int = 7, environment: int = 0) -> Any:
    """An event class with these fields, as a probe's module would have it."""
    namespace = {
        "__module__": __name__,
        "__annotations__": dict(fields),
        "data_type": number,
        "event_name": name,
        "dataset": "process",
        "category": "process",
        "action_type": "info",
        "environment_limit": environment,
    }
    return types.new_class(name.title(), (ProcessEvent,), {"gc": False}, lambda body: body.update(namespace))


@st.composite
def any_declaration(draw: st.DrawFn) -> Any:
    """An event class with arbitrary fields of every type, then arbitrary tails, some of each of their own."""
    wires = [(f"field_{at}", named(wire)) for at, wire in enumerate(draw(st.lists(WIRES, max_size=9)))]
    tails = [(f"tail_{at}", named(tail)) for at, tail in enumerate(draw(st.lists(TAILS, max_size=3)))]
    apart = draw(st.sets(st.sampled_from([name for name, _ in wires]))) if wires else set()
    wires = [(name, Annotated[wire, Own()] if name in apart else wire) for name, wire in wires]
    last = draw(st.integers(0, len(tails)))
    tails = [(name, Annotated[tail, Own()] if at >= last else tail) for at, (name, tail) in enumerate(tails)]
    return declare(*wires, *tails, environment=draw(st.sampled_from([0, 64])))
