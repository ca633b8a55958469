# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures in README.md and docs/performance.md: made from ``bench/results``, between marks.

``python -m bench.document`` writes them anew; a test holds the files to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bench import e2e, kept, overhead, stages, storm
from bench.machine import Machine
from bench.report import Report, Row, read, read_as
from bench.table import brackets, figure, paid_instead, share

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")

_MARK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _where(machine: Machine, doubts: Sequence[str], command: str) -> str:
    virtual = "a virtual machine with " if machine.is_virtual else ""
    said = "".join(f"\n- {doubt}" for doubt in doubts)
    doubtful = f"\nWhat makes them doubtful:\n{said}\n" if doubts else ""
    return (
        f"`{command}` on {virtual}{machine.cpus} CPUs ({machine.cpu}), Linux {machine.kernel}, "
        f"{machine.started[:10]}, commit {machine.commit}.\n{doubtful}\n"
    )


def _run() -> Report:
    return read(RESULTS / "run.json")


def _row(row: Row) -> tuple[str, ...]:
    theirs = row.documented
    if row.instead is not None:
        paid = f"no such handler; any call pays {paid_instead(row.instead)}"
        return (f"`{theirs.handler}`", f"{theirs.mean:g}", paid, "", "", "", row.verdict)
    quantiles = [
        f"{figure(ours)}{f' ({limit:.3g})' if limit is not None else ''}"
        for ours, limit in ((row.p50, theirs.p50), (row.p90, theirs.p90), (row.p99, theirs.p99))
    ]
    verdict = row.verdict if row.ratio is None else f"{row.verdict}, {row.ratio:.2f}"
    if not row.source.is_budget and row.ratio is not None:
        verdict = f"{'won' if row.ratio <= 1 else 'lost'}, {row.ratio:.2f}"
    return (f"`{theirs.handler}`", f"{theirs.mean:g}", figure(row.mean), *quantiles, verdict)


def _rows(*, budget: bool) -> str:
    columns = ("handler", "theirs, mean", "ours, mean", "p50 (theirs)", "p90", "p99", "verdict, ratio")
    parts = []
    report = _run()
    for source in dict.fromkeys(row.source.name for row in report.rows if row.source.is_budget == budget):
        rows = [row for row in report.rows if row.source.name == source]
        parts.append(f"{source}, on {rows[0].source.cpu}:\n\n{_table(columns, map(_row, rows))}")
    return "\n".join(parts)


def _budgets() -> str:
    report = _run()
    return _where(report.machine, report.warnings, report.command) + _rows(budget=True)


def _references() -> str:
    return _rows(budget=False)


def _programs() -> str:
    columns = ("program", "by", "n", "mean", "kernel's mean (rounds)", "p50", "p90", "p99", "p99.9", "max")
    rows = []
    for each in _run().main_handlers():
        inside = each.inside
        kernel = "–" if each.kernel is None else (
            f"{figure(each.kernel.median)} ({figure(each.kernel.low)}–{figure(each.kernel.high)})"
        )  # fmt: skip
        quantiles = (inside.p50, inside.p90, inside.p99, inside.p999, inside.max)
        rows.append((each.name, each.action, f"{inside.n:,}", figure(inside.mean), kernel, *map(figure, quantiles)))
    return _table(columns, rows)


def _calls() -> str:
    report = _run()
    rows = [
        (call.title, figure(call.without.median), figure(call.beside.median),
         f"{figure(call.paid.median)} ({figure(call.paid.low)} to {figure(call.paid.high)})",
         share(call))
        for call in report.calls
    ]  # fmt: skip
    return _table(("action", "without", "beside the probes", f"paid ({brackets(report)})", ""), rows)


def _stages() -> str:
    report = read_as(RESULTS / "stages.json", stages.Report, stages.SCHEMA)
    rows = [
        (each.name, f"{each.ns.median:,.0f}", f"{each.ns.low:,.0f}", f"{each.ns.high:,.0f}") for each in report.stages
    ]
    return _where(report.machine, report.warnings, report.command) + _table(
        ("stage", "ns an event", "from", "to"), rows
    )


def _overhead() -> str:
    report = read_as(RESULTS / "overhead.json", overhead.Report, overhead.SCHEMA)
    rows = [
        (each.workload, each.collector, f"{each.wall_s.median:.2f}",
         "–" if each.collector == "nobody"
         else f"{each.wall_paid.median:+.1%} ({each.wall_paid.low:+.1%} to {each.wall_paid.high:+.1%})",
         f"{each.system_s.median:.2f}", f"{each.collector_cpu_s.median:.2f}", f"{each.peak_mib:.0f}", f"{each.lost:,}")
        for each in report.watched
    ]  # fmt: skip
    left = "".join(f"\nLeft out: {each}\n" for each in report.left_out)
    columns = ("workload", "collector", "wall s", "paid", "system s", "its CPU s", "its MiB", "lost")
    return _where(report.machine, report.warnings, report.command) + _table(columns, rows) + left


def _e2e() -> str:
    report = read_as(RESULTS / "e2e.json", e2e.Report, e2e.SCHEMA)
    rows = [
        (each.kind, f"{each.rate:,}", f"{each.achieved:,.0f}", f"{each.events:,}",
         *(f"{seconds * 1000:.3g}" for seconds in (each.p50_s, each.p90_s, each.p99_s, each.p999_s)),
         f"{each.dropped:,}")
        for each in report.latencies
    ]  # fmt: skip
    columns = ("sink", "rate, 1/s", "achieved", "events", "p50, ms", "p90", "p99", "p99.9", "not delivered")
    return _where(report.machine, report.warnings, report.command) + _table(columns, rows)


def _kept(name: str) -> kept.Kept:
    return read_as(RESULTS / f"{name}.json", kept.Kept, kept.SCHEMA)


def _ndjson() -> str:
    report = _kept("ndjson")
    rows = [
        (
            f"{events:,} events",
            str(one.seconds.times),
            *(f"{events / seconds:,.0f}" for seconds in (one.seconds.low, one.seconds.median, one.seconds.high)),
        )
        for one in report.benchmarks
        for events in (one.extra_info["events"],)
    ]
    noted = report.benchmarks[0].extra_info
    sizes = f"{noted['bytes_per_record']:,} bytes a record, {noted['bytes_per_line']:,} a line:\n\n"
    columns = ("a run of", "runs", "fastest, events/s", "median", "slowest")
    return _where(report.machine, report.warnings, report.command) + sizes + _table(columns, rows)


_SINKS = {
    "test_file": "file: encode and write",
    "test_file_of_ready_lines": "file: write lines that are ready",
    "test_kafka": "Kafka",
    "test_elasticsearch": "Elasticsearch",
}


def _sinks() -> str:
    report = _kept("sinks")

    def rates(found: Mapping[str, float]) -> str:
        return f"{found['events_per_second']:,.0f} ({found['min']:,} to {found['max']:,})"

    rows = []
    for name, title in _SINKS.items():
        noted = report.noted(name)
        ratio = noted["ratio"]
        share = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        rows.append((title, rates(noted["by_hand"]), rates(noted["by_pipeline"]), share))
    columns = ("", "bare loop, events/s", "pipeline, events/s", "ratio of each round")
    return _where(report.machine, report.warnings, report.command) + _table(columns, rows)


_STARTS = {
    "test_start_to_first_event": "first execution in the file",
    "test_start_to_all_probes": "all default probes attached",
    "test_cold_start_to_first_event": "first execution in the file, nothing compiled before",
    "test_cold_start_to_all_probes": "all default probes attached, nothing compiled before",
}


def _start() -> str:
    report = _kept("start")
    seconds = {each.name: each.seconds for each in report.benchmarks}
    rows = [
        (title, f"{seconds[name].median:.2f}", f"{seconds[name].low:.2f}", f"{seconds[name].high:.2f}")
        for name, title in _STARTS.items()
    ]
    columns = ("from the start of the command to", "seconds", "from", "to")
    return _where(report.machine, report.warnings, report.command) + _table(columns, rows)


def _memory() -> str:
    report = _kept("memory")
    (tree,) = report.benchmarks
    return (
        f"A process in the tree takes {tree.extra_info['bytes_per_process']:,} bytes (resident memory, "
        f"{tree.extra_info['processes']:,} entries; `{report.command}`).\n"
    )


def _storm() -> str:
    report = read_as(RESULTS / "storm.json", storm.Report, storm.SCHEMA)
    return _where(report.machine, report.warnings, report.command) + _table(storm.COLUMNS, storm.rows(report))


PARTS: dict[str, Callable[[], str]] = {
    "ndjson": _ndjson,
    "budgets": _budgets,
    "references": _references,
    "programs": _programs,
    "calls": _calls,
    "stages": _stages,
    "overhead": _overhead,
    "e2e": _e2e,
    "sinks": _sinks,
    "start": _start,
    "memory": _memory,
    "storm": _storm,
}


def renewed(text: str) -> str:
    """The text with all that stands between marks made anew. Raises KeyError: a mark of no part; ConfigError."""
    return _MARK.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    """Write the documents anew."""
    for path in DOCUMENTS:
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
