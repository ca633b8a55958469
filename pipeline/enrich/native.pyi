# SPDX-License-Identifier: GPL-2.0-or-later
"""Enrichments in C; not there where no compiler was found. See `process_tree` and `assignment`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from probes.event import ProcessEvent

class Tracker:
    """Takes the usual turns of a process tree."""

    met: int
    """Processes that it took into the table."""

    def __init__(
        self,
        event: type[ProcessEvent],
        execution: type[ProcessEvent],
        process: type,
        fresh: tuple[Any, ...],
        others: tuple[type[ProcessEvent], ...],
        read_body: Mapping[bytes, Sequence[Any]] | Callable[[bytes], Sequence[Any]],
        places: tuple[int, int],
        depth: int,
        max_processes: int,
        tick_ns: int,
        /,
    ) -> None:
        """`fresh`: what a process has behind its six arguments at first; `others`: the kinds that are never usual;
        `places`: of the path and the result in an execution's body; `tick_ns`: to which /proc rounds start times.

        Raises:
            TypeError: instances of the classes do not hold the fields that it needs.
            ValueError: an execution is no event, a process is no such class, a place is below 0, or the tick is 0.
        """

    def track(
        self,
        events: list[ProcessEvent],
        at: int,
        processes: dict[int, Any],
        parents: dict[bytes, Any],
        names: Mapping[bytes, str],
        epoch: int,
        exited: Callable[[Any], None],
        line_of: Callable[[Any], str],
        tell_parent: Callable[[ProcessEvent], None] | None,
        /,
    ) -> int:
        """Enrich `events` from `at` on; gives the first that is not usual, of which nothing is done, or their number.

        `exited` is told of a process whose id another has now; `line_of` gives the line of a process where its parent
        has none; `tell_parent` sets `parent` where it was not made yet, None: nobody wants it.
        """

class Assignment:
    """See `pipeline.enrich.assignment`."""

    def __init__(self, event: type[ProcessEvent], key: str, fields: tuple[str, ...], unless: str | None, /) -> None: ...
    def __call__(self, events: list[ProcessEvent], values: dict[Any, Any], /) -> list[ProcessEvent]: ...
