# SPDX-License-Identifier: GPL-2.0-or-later
"""An event as one line for people."""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sinks.protocol import EventView

_NAME_COLUMNS = 16
_RESET = "\x1b[0m"
# The foregrounds that are legible on dark and on light backgrounds: red to cyan, then the same in bold.
_COLOURS = [f"\x1b[{style}{colour}m" for style in ("", "1;") for colour in range(31, 37)]


class LineWriter:
    """Renders events; keeps what neighbouring events share."""

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._second = -1
        self._clock = ""

    def render(self, events: Iterable[EventView], boot_offset_ns: int, columns: int | None) -> bytes:
        """One line an event: local time, kind, summary; UTF-8 without control characters other than colour.

        ``boot_offset_ns``: what to add to a time since boot. ``columns``: where lines are cut, in terminal
        cells; None: nowhere.
        """
        lines: list[str] = []
        for event in events:
            second, rest_ns = divmod(event.time_ns + boot_offset_ns, 1_000_000_000)
            if second != self._second:
                self._second, self._clock = second, time.strftime("%H:%M:%S", time.localtime(second))
            summary = printable(event.summary())
            name = printable(event.name()).ljust(_NAME_COLUMNS)
            head = f"{self._clock}.{rest_ns // 1_000_000:03} "
            if columns is not None:
                name = cut(name, columns - len(head))
                summary = cut(summary, columns - len(head) - len(name) - 1)
            tail = f" {summary}\n" if summary else "\n"
            lines.append(head + self._coloured(event.kind, name) + tail)
        return "".join(lines).encode()

    def _coloured(self, kind: int, name: str) -> str:
        if not self._colour:
            return name
        return f"{_COLOURS[kind % len(_COLOURS)]}{name}{_RESET}"


def printable(text: str) -> str:
    """``text`` with every character escaped that could move the cursor, hide or reorder others.

    That is what ``str.isprintable`` denies: control and format characters, lone surrogates, odd spaces.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def cut(text: str, columns: int) -> str:
    """Printable ``text`` in at most ``columns`` terminal cells; an ellipsis says that it was longer."""
    if text.isascii():
        return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…" * (columns > 0)
    used = 0
    # Where the text ends if an ellipsis must follow.
    end = 0
    for place, char in enumerate(text):
        used += _cells(char)
        if used > columns:
            return text[:end] + "…" * (columns > 0)
        if used < columns:
            end = place + 1
    return text


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
