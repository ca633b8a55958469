# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields of events that a dictionary has under one of their other fields."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from probes.event import ProcessEvent

try:
    from pipeline.enrich.native import Assignment
except ImportError:  # there was no C compiler
    Assignment = None  # type: ignore[assignment,misc]

Assign = Callable[[list[ProcessEvent], dict[Any, Any]], list[ProcessEvent]]
"""(events, values by key) -> the events, in order, whose key has no value; the others have theirs."""

IS_BUILT = Assignment is not None
"""Whether this is done in C."""


def assignment(key: str, *fields: str, unless: str | None = None, in_c: bool = IS_BUILT) -> Assign:
    """What sets one field to the value that an event's `key` has, or several to the values of a tuple.

    Events whose field `unless` is not empty are left as they are.
    """
    if in_c:
        return Assignment(ProcessEvent, key, fields, unless)
    key_of, is_exempt = attrgetter(key), attrgetter(unless) if unless is not None else lambda _event: False

    def assign(events: list[ProcessEvent], values: dict[Any, Any]) -> list[ProcessEvent]:
        rest = []
        for event in events:
            if is_exempt(event):
                continue
            value = values.get(key_of(event))
            if value is None:
                rest.append(event)
                continue
            for field, each in zip(fields, value if len(fields) > 1 else (value,), strict=True):
                setattr(event, field, each)
        return rest

    return assign
