# SPDX-License-Identifier: GPL-2.0-or-later
"""A report of ``bench run`` for people, within 100 columns."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from bench.figures import TOO_FEW, Interval, Spread
from bench.report import Call, Report, Row, failures

WIDTH = 100

_VERDICTS = {
    "met": "[bold green]met[/]",
    "over": "[bold red]OVER[/]",
    "no samples": "[bold red]no samples[/]",
    "no handler": "[cyan]none here[/]",
    "not measured": "[dim]not measured[/]",
}


def console(*, stderr: bool = False) -> Console:
    """A console of at most 100 columns; into a pipe, of 100."""
    wide = Console(stderr=stderr, highlight=False)
    return Console(stderr=stderr, highlight=False, width=min(WIDTH, wide.width) if wide.is_terminal else WIDTH)


def figure(nanoseconds: float | None) -> str:
    """ns as µs, in four characters where that is possible."""
    if nanoseconds is None:
        return "–"
    micros = nanoseconds / 1000
    size = abs(micros)
    return f"{micros:,.0f}" if size >= 99.95 else f"{micros:.1f}" if size >= 9.995 else f"{micros:.2f}"


def _interval(paid: Interval) -> str:
    return f"{figure(paid.median)} [dim]({figure(paid.low)} to {figure(paid.high)})[/]"


def brackets(report: Report) -> str:
    """What stands in brackets where calls pay something."""
    return " or ".join(dict.fromkeys(call.paid.bracket for call in report.calls))


def share(call: Call) -> str:
    """What a call pays as a share of what it takes without probes, or why that is not shown."""
    return call.paid.doubt or f"{call.paid.median / call.without.median:+.1%}"


def paid_instead(paid: Interval) -> str:
    """What calls pay, in a few words: where that is noise, how much it could be, and no figure below zero."""
    if paid.doubt == "noise":
        return f"at most {figure(max(paid.high, 0))}"
    named = f"{paid.bracket}: " if paid.doubt else ""
    return f"{figure(paid.median)} ({named}{figure(paid.low)} to {figure(paid.high)})"


def _spread(each: Spread | None) -> str:
    return "–" if each is None else f"{figure(each.median)} [dim]({figure(each.low)}–{figure(each.high)})[/]"


def new_table(title: str, columns: Iterable[str], caption: str = "") -> Table:
    """A table as all of ours."""
    table = Table(
        title=title, title_justify="left", title_style="bold", caption=caption or None, caption_justify="left",
        caption_style="dim", box=box.SIMPLE_HEAD, pad_edge=False, padding=0,
    )  # fmt: skip
    for column in columns:
        left = column in ("handler", "program", "what", "by", "verdict", "sink", "collector")
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def _short(name: str) -> str:
    """PROGRAM, which says its probe anyway."""
    return name.partition("/")[2]


def _budget_rows(report: Report, *, budget: bool) -> Iterable[tuple[str, Table]]:
    sources = dict.fromkeys(row.source.name for row in report.rows if row.source.is_budget == budget)
    for name in sources:
        rows = [row for row in report.rows if row.source.name == name]
        columns = ("handler", "theirs", "mean", "kernel", "p50", "p90", "p95", "p99", "max", "n", "ratio", "verdict")
        title = f"{name} ({rows[0].source.cpu})"
        table = new_table(title, columns)
        for row in rows:
            table.add_row(*_cells(row))
        yield name, table


def _cells(row: Row) -> list[str]:
    verdict = _VERDICTS[row.verdict]
    if not row.source.is_budget:
        verdict = {"met": "[green]won[/]", "over": "[red]lost[/]"}.get(row.verdict, verdict)
    figures = [figure(row.mean), figure(row.kernel_mean)]
    for name in ("p50", "p90", "p95", "p99", "max"):
        text = figure(getattr(row, name))
        figures.append(f"[red]{text}[/]" if name in row.percentiles_over else text)
    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
    n = f"{row.n:,}" if row.n else "–"
    return [row.documented.handler, f"{row.documented.mean:.2f}", *figures, n, ratio, verdict]


def _answers(report: Report) -> Iterable[str]:
    for row in report.rows:
        if row.source.is_budget:
            ours = " and ".join(_short(name) for name in row.documented.ours) or "nothing"
            note = f": {row.documented.note}" if row.documented.note else ""
            paid = f"; any call of the host pays {paid_instead(row.instead)} instead" if row.instead else ""
            yield f"[dim]{row.documented.handler}[/] is answered by [bold]{ours}[/]{note}{paid}"


def _programs(report: Report) -> Table:
    columns = ("program", "by", "n", "mean", "kernel", "p50", "p90", "p95", "p99", "p99.9", "max")
    table = new_table("Every program, by the action that runs it most", columns)
    for each in report.main_handlers():
        inside = each.inside
        quantiles = (inside.p50, inside.p90, inside.p95, inside.p99, inside.p999, inside.max)
        kernel = figure(each.kernel.median if each.kernel else None)
        cells = [figure(inside.mean), kernel, *map(figure, quantiles)]
        table.add_row(_short(each.name), each.action, f"{inside.n:,}", *cells)
    return table


def _calls(report: Report) -> Table:
    few = any(call.paid.doubt == TOO_FEW for call in report.calls)
    caption = (
        f"medians of the rounds with their extremes; paid: the difference with its {brackets(report)}"
        f"{', too few to tell what is noise' if few else ''}"
    )
    table = new_table("What the system calls pay", ("what", "without", "beside the probes", "paid"), caption)
    for call in report.calls:
        paid = _interval(call.paid) + (" [dim]noise[/]" if call.paid.doubt == "noise" else "")
        table.add_row(call.title, _spread(call.without), _spread(call.beside), paid)
    return table


def show(report: Report, out: Console) -> None:
    """Print all of it."""
    where = report.machine
    virtual = ", virtual" if where.is_virtual else ""
    out.print(
        f"[bold]{where.cpu}[/], {where.cpus} CPUs{virtual}, Linux {where.kernel}, clock {where.clock}, "
        f"hookline {where.hookline} {where.commit}"
    )
    out.print(f"{report.rounds} rounds in {report.seconds:.0f} s; all figures in µs", end="\n\n")
    for _name, table in _budget_rows(report, budget=True):
        out.print(table)
    for line in _answers(report):
        out.print(line)
    out.print()
    for _name, table in _budget_rows(report, budget=False):
        out.print(table)
    out.print(_programs(report))
    out.print(_calls(report))
    out.print(
        "[dim]theirs: the documented mean. mean, p50 ...: the histogram inside our program, less the "
        f"{report.clock_ns} ns of a reading of the clock; red: above what is documented. kernel: mean of bpf_stats, of "
        "the build that users run.[/]"
    )
    if report.nothing:
        own = figure(report.nothing.median)
        out.print(f"[dim]the kernel's statistics count {own} µs for a program that does nothing[/]")
    for warning in report.warnings:
        out.print(f"[yellow]doubt:[/] {warning}")
    for left in report.left_out:
        out.print(f"[yellow]left out:[/] {left}")


def verdict(report: Report, out: Console) -> int:
    """Say what ``--check`` says; gives the exit code."""
    found = failures(report)
    for sentence in found:
        out.print(f"[bold red]over budget:[/] {sentence}", soft_wrap=True)
    budgets = [row for row in report.rows if row.source.is_budget]
    left = [row.documented.handler for row in budgets if row.verdict == "not measured"]
    if len(left) == len(budgets):
        out.print("no documented budget was asked for, so none is checked")
    elif not found:
        out.print("[bold green]no documented mean is exceeded[/]")
    if left:
        out.print(f"[dim]not measured:[/] {', '.join(left)}", soft_wrap=True)
    return os.EX_OK if not found else 1
