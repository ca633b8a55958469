# SPDX-License-Identifier: GPL-2.0-or-later
"""Text on standard output: tables for a terminal, plain columns for a pipe, quiet where nobody reads."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def emit(text: str) -> None:
    """Write `text`, which ends its own lines. A reader that went away (``| head``) is no error.

    Neither is a standard output that was closed from the start.
    """
    if not sys.stdout:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer would raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their headings, as wide as the terminal; in a pipe as wide as they are."""
    return _drawn(head, rows) if sys.stdout and sys.stdout.isatty() else _aligned(head, rows)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    return "".join(f"{line}\n" for line in lines)


def _drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # rich takes 100 ms to import: only people who look at a terminal pay for it.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in head:
        drawn.add_column(title, overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get()
