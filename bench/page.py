# SPDX-License-Identifier: GPL-2.0-or-later
"""``--html``: one page that needs nothing else, with histograms against the budget's line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from bench import overhead, stages, svg
from bench.figures import TOO_FEW
from bench.report import Handler, Report, Row, read_as
from bench.table import brackets, figure, paid_instead, share

_STYLE = Path(__file__).with_name("page.css")

_BADGES = {
    "met": ("good", "met"),
    "over": ("bad", "over"),
    "no samples": ("bad", "no samples"),
    "no handler": ("none", "no handler"),
    "not measured": ("none", "not measured"),
}


Others = tuple[stages.Report | None, overhead.Report | None]


def read_others(stages_json: Path | None, overhead_json: Path | None) -> Others:
    """What other benches found, of the files that they wrote. Raises ConfigError: one is no such file."""
    return (
        read_as(stages_json, stages.Report, stages.SCHEMA) if stages_json else None,
        read_as(overhead_json, overhead.Report, overhead.SCHEMA) if overhead_json else None,
    )


def write_page(path: Path, report: Report, others: Others = (None, None)) -> None:
    """Write the page, with what other benches found where it is given. Raises OSError."""
    of_stages, of_overhead = others
    more = [_stages(of_stages) if of_stages else "", _overhead(of_overhead) if of_overhead else ""]
    parts = [_head(report), _cards(report), _references(report), _programs(report), _calls(report), *more]
    body = "\n".join([*parts, _method(report)])
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>What Hookline costs</title>'
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head>\n<body><main>{body}</main></body></html>\n",
        encoding="utf-8",
    )


def section(title: str, body: str, lead: str = "") -> str:
    """A part of the page under a heading."""
    return f"<section><h2>{escape(title)}</h2>{f'<p class=lead>{escape(lead)}</p>' if lead else ''}{body}</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> str:
    """A table whose first `words` columns are words; cells are HTML."""

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = ("word" if at < words else "number" for at in range(len(row)))
        return "".join(f'<{tag} class="{kind}">{cell}</{tag}>' for kind, cell in zip(kinds, row, strict=True))

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{cells("th", columns)}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def badge(kind: str, text: str) -> str:
    """A coloured word."""
    return f'<span class="badge {kind}">{escape(text)}</span>'


def _head(report: Report) -> str:
    where = report.machine
    virtual = "virtual machine, " if where.is_virtual else ""
    facts = (
        where.cpu,
        f"{virtual}{where.cpus} CPUs, {where.memory_mib:,} MiB",
        f"Linux {where.kernel}, clock {where.clock}, mitigations {where.mitigations}",
        f"hookline {where.hookline} {where.commit}, Python {where.python}",
        f"{where.started}, {report.rounds} rounds in {report.seconds:.0f} s",
    )
    return (
        f"<header><h1>What Hookline costs</h1>"
        f'<p class="lead">{_met(report)}; the entry handlers that others have do not exist here.</p>'
        f"<ul class=facts>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>"
        f"{_doubts(report)}</header>"
    )


def _met(report: Report) -> str:
    budgets = [row for row in report.rows if row.source.is_budget and row.documented.ours]
    measured = [row for row in budgets if row.verdict != "not measured"]
    if not measured:
        return "No documented handler budget was measured"
    left = f", {len(budgets) - len(measured)} not measured" if len(measured) < len(budgets) else ""
    return f"{sum(row.verdict == 'met' for row in measured)} of {len(measured)} documented handler budgets met{left}"


def _doubts(report: Report | stages.Report | overhead.Report) -> str:
    said = (*report.warnings, *(f"left out: {each}" for each in report.left_out))
    return f"<ul class=doubts>{''.join(f'<li>{escape(each)}</li>' for each in said)}</ul>" if said else ""


def _best(report: Report, row: Row) -> list[Handler]:
    wanted = row.documented
    return [each for each in report.handlers if each.name in wanted.ours and each.action in wanted.actions]


def _card(report: Report, row: Row) -> str:
    kind, text = _BADGES[row.verdict]
    title = f"<h3>{escape(row.documented.handler)} {badge(kind, text)}</h3>"
    note = escape(row.documented.note)
    if row.mean is None:
        paid = ""
        if row.instead:
            paid = (
                f"<p class=big>{paid_instead(row.instead)} <small>µs</small></p><p>is what a call that nothing hooks "
                f"pays for the probes instead; theirs took {row.documented.mean} µs.</p>"
            )
        return f"<article>{title}<p class=note>{note}</p>{paid}</article>"
    handlers = _best(report, row)
    chart = svg.histogram([each.inside for each in handlers], row.documented.mean * 1000, row.documented.p99)
    quantiles = ((name, getattr(row, name), getattr(row.documented, name)) for name in ("p50", "p90", "p99"))
    below = "".join(
        f"<span>{name} <b class={'over' if theirs and ours > theirs * 1000 else 'under'}>{figure(ours)}</b>"
        f"<i>/ {figure(theirs * 1000)}</i></span>"
        for name, ours, theirs in quantiles
        if theirs is not None
    )
    kernel = f", by the kernel's count {figure(row.kernel_mean)}" if row.kernel_mean else ""
    return (
        f"<article>{title}<p class=note>{note}</p><p class=big>{figure(row.mean)} <small>µs of {row.documented.mean}"
        f"</small></p>{chart}<p class=quantiles>{below}</p><p class=note>n = {row.n:,}{kernel}</p></article>"
    )


def _cards(report: Report) -> str:
    rows = [row for row in report.rows if row.source.is_budget]
    lead = f"{rows[0].source.name}, on {rows[0].source.cpu}: {rows[0].source.note}. The dashed line is their mean."
    return section(
        "The documented budget", f"<div class=cards>{''.join(_card(report, row) for row in rows)}</div>", lead
    )


def _references(report: Report) -> str:
    lines = []
    for row in report.rows:
        if row.source.is_budget:
            continue
        if row.mean is None or row.ratio is None:
            kind, text = _BADGES[row.verdict]
            lines.append((row.source.name, row.documented.handler, f"{row.documented.mean:.2f}", "–", "", "–", "–",
                          badge(kind, text)))  # fmt: skip
            continue
        won = badge("good", "won") if row.ratio <= 1 else badge("bad", "lost")
        theirs = f"{row.documented.p99:.1f}" if row.documented.p99 else "–"
        lines.append((row.source.name, row.documented.handler, f"{row.documented.mean:.2f}", figure(row.mean),
                      svg.bar(row.ratio), theirs, figure(row.p99), won))  # fmt: skip
    columns = ("source", "handler", "theirs", "ours", "share of theirs", "their p99", "ours", "")
    return section("Harder references", table(columns, lines, 2), "Means in µs; not budgets, but won or lost.")


def _programs(report: Report) -> str:
    handlers = report.main_handlers()
    top = max((each.inside.p99 for each in handlers), default=1)
    lines = [
        (
            escape(each.name),
            escape(each.action),
            f"{each.inside.n:,}",
            figure(each.inside.mean),
            figure(each.kernel.median if each.kernel else None),
            svg.box(each.inside, top),
            figure(each.inside.p50),
            figure(each.inside.p99),
            figure(each.inside.max),
        )
        for each in handlers
    ]
    columns = ("program", "by", "n", "mean", "kernel", "p50 to p99", "p50", "p99", "max")
    return section("Every program", table(columns, lines, 2), "µs; the bars' scale is logarithmic.")


def _calls(report: Report) -> str:
    top = max((call.paid.high / call.without.median for call in report.calls), default=1.0)
    lines = [
        (
            escape(call.title),
            figure(call.without.median),
            figure(call.beside.median),
            f"{figure(call.paid.median)} <i>({figure(call.paid.low)} to {figure(call.paid.high)})</i>",
            svg.share(call.paid, call.without.median, min(top, 1.0)),
            badge("none", call.paid.doubt) if call.paid.doubt else share(call),
        )
        for call in report.calls
    ]
    columns = ("system call", "without", "beside the probes", f"paid ({brackets(report)})", "as a share", "")
    few = any(call.paid.doubt == TOO_FEW for call in report.calls)
    noise = "These rounds are too few to tell noise" if few else "Where the interval is not above zero it is noise"
    lead = f"With the default probes and without them in turn; µs. {noise}."
    return section("What the calls themselves pay", table(columns, lines), lead)


def _stages(report: stages.Report) -> str:
    rows = [(escape(each.name), each.ns.median, f"{each.ns.median:,.0f} ns") for each in report.stages]
    lead = f"ns an execution, medians of passes through {report.events:,} of them."
    return section(
        "What each stage of the pipeline costs", f"<article>{svg.bars(rows)}</article>{_doubts(report)}", lead
    )


def _overhead(report: overhead.Report) -> str:
    cards = []
    for workload in dict.fromkeys(each.workload for each in report.watched):
        under = [each for each in report.watched if each.workload == workload]
        rows = [(each.collector, each.wall_s.median, f"{each.wall_s.median:.2f} s {_paid(each)}") for each in under]
        lines = [
            (each.collector, f"{each.system_s.median:.2f}", f"{each.collector_cpu_s.median:.2f}",
             f"{each.peak_mib:.0f}", f"{each.lost:,}")
            for each in under
        ]  # fmt: skip
        columns = ("", "system s", "its CPU s", "its MiB", "lost")
        cards.append(f"<article><h3>{escape(workload)}</h3>{svg.bars(rows)}{table(columns, lines)}</article>")
    lead = f"Wall time of a workload under each collector in turn, medians of {report.rounds} rounds."
    shown = f"<div class='cards one'>{''.join(cards)}</div>{_doubts(report)}"
    return section("What a real workload pays", shown, lead)


def _paid(each: overhead.Watched) -> str:
    return "" if each.collector == "nobody" else f"({each.wall_paid.median:+.1%})"


def _method(report: Report) -> str:
    own = report.nothing
    nothing = f", which count {figure(own.median)} µs for a program that does nothing" if own else ""
    return section(
        "How",
        "<p>Real system calls drive each hook. Durations are those of a histogram inside each program, compiled in for "
        f"this, less the {report.clock_ns} ns that reading the clock takes; <i>kernel</i> is the mean of the kernel's "
        f"bpf_stats, of the build that users run{nothing}; what calls pay is their own time with the probes and "
        "without them, in turn. A quantile is at "
        f"most 6.25 % too long.</p><pre>{escape(report.command)}</pre>",
    )
