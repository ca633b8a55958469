# SPDX-License-Identifier: GPL-2.0-or-later
"""Event classes that no probe has, for tests of what a declaration may say."""

from __future__ import annotations

from typing import Annotated, Any, cast

import msgspec
from hypothesis import strategies as st

from probes.event import Chars, Ip, Names, ProcessEvent, Tail, Variable, s32, s64, u8, u16, u32, u64

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
    return cast(
        "type[ProcessEvent]",
        msgspec.defstruct(
            name.title(),
            fields,
            bases=(ProcessEvent,),
            gc=False,
            module=__name__,
            namespace={
                "data_type": number,
                "event_name": name,
                "dataset": "process",
                "category": "process",
                "action_type": "info",
                "environment_limit": environment,
            },
        ),
    )


@st.composite
def any_declaration(draw: st.DrawFn) -> Any:
    """An event class with arbitrary fields of every type, then arbitrary tails."""
    wires = [(f"field_{at}", named(wire)) for at, wire in enumerate(draw(st.lists(WIRES, max_size=9)))]
    tails = [(f"tail_{at}", named(tail)) for at, tail in enumerate(draw(st.lists(TAILS, max_size=3)))]
    return declare(*wires, *tails, environment=draw(st.sampled_from([0, 64])))
