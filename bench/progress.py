# SPDX-License-Identifier: GPL-2.0-or-later
"""A bar with the time left, on standard error."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.table import console


def progress() -> Progress:
    """A context in which tasks are shown; into a pipe nothing is."""
    shown = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=shown,
        disable=not shown.is_terminal,
        speed_estimate_period=120,
    )
