# SPDX-License-Identifier: GPL-2.0-or-later
"""``--compare``: what changed between two reports, where it is more than both of them scatter."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from bench.report import Handler, Report
from bench.table import figure, new_table

_LEAST = 0.05
"""Share below which nothing is called a change: a bucket's width."""

_FEW = 50
"""Runs below which a program ran by the way: each action begins with a fork and an execution."""


def change(before: Handler, now: Handler) -> float | None:
    """By which share the median of the rounds' means changed; None where the rounds' ranges overlap, or nearly."""
    then, today = before.inside.by_round, now.inside.by_round
    if then.low <= today.high and today.low <= then.high:
        return None
    share = (today.median - then.median) / then.median
    return share if abs(share) >= _LEAST else None


def show_change(before: Report, now: Report, out: Console) -> None:
    """Print what got slower or faster, and how many did neither."""
    if before.machine.cpu != now.machine.cpu or before.machine.kernel != now.machine.kernel:
        out.print("[yellow]doubt:[/] the other figures are of another machine or kernel")
    old = {(each.name, each.action): each for each in _driven(before)}
    table: Table = new_table("Change", ("program", "by", "before", "now", "change"))
    same = 0
    for each in _driven(now):
        then = old.get((each.name, each.action))
        if then is None:
            continue
        changed = change(then, each)
        if changed is None:
            same += 1
            continue
        colour = "red" if changed > 0 else "green"
        cells = (figure(then.inside.by_round.median), figure(each.inside.by_round.median))
        table.add_row(each.name, each.action, *cells, f"[{colour}]{changed:+.0%}[/]")
    if table.row_count:
        out.print(table)
    out.print(f"{same} programs did not change by more than the rounds scatter, {table.row_count} did")


def _driven(report: Report) -> Iterable[Handler]:
    return (each for each in report.handlers if each.inside.n >= _FEW)
