# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``bench``, also ``hookline bench``. Exit codes as the collector's; with ``--check``, 1: over budget."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.report import Report, check_places
from pipeline.cli import invoke
from pipeline.config import Config, load
from pipeline.failure import UNUSABLE, complain

if TYPE_CHECKING:
    from bench.page import Others

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What Hookline costs on this machine.",
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration. [default: built-in defaults]")
]
JsonOption = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")]
HtmlOption = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page there.")]
QuickOption = Annotated[bool, typer.Option("--quick", help="Less of all: under a minute once all is compiled.")]
CheckOption = Annotated[bool, typer.Option("--check", help="Exit with 1 if a documented budget is not met.")]
CompareOption = Annotated[
    Path | None, typer.Option("--compare", metavar="FILE", help="Show the change since that --json FILE.")
]
StagesOption = Annotated[
    Path | None, typer.Option("--stages", metavar="FILE", help="Of `bench stages --json`, for the page.")
]
OverheadOption = Annotated[
    Path | None, typer.Option("--overhead", metavar="FILE", help="Of `bench overhead --json`, for the page.")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


@app.callback()
def _bench() -> None:
    """What Hookline costs on this machine."""


@app.command()
def run(
    config: ConfigOption = None,
    probe: Annotated[
        list[str] | None,
        typer.Option("--probe", metavar="NAME", help="Measure this probe (or default, or all) only. [default: all]"),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option("--action", metavar="NAME", help="Drive with this action only; may be repeated. [default: all]"),
    ] = None,
    json: JsonOption = None,
    html: HtmlOption = None,
    stages_json: StagesOption = None,
    overhead_json: OverheadOption = None,
    check: CheckOption = False,
    compare: CompareOption = None,
    quick: QuickOption = False,
) -> int:
    """What each hook costs, against documented budgets. Needs root."""
    from bench.page import read_others
    from bench.progress import progress
    from bench.report import read, save
    from bench.rounds import Plan, measure
    from probes.kernel.features import preflight

    check_places(json, html)
    before = read(compare) if compare else None
    others = read_others(stages_json, overhead_json)
    if not _is_root("bench run loads programs into the kernel"):
        return UNUSABLE
    preflight()
    settings = load(config) if config else Config()
    plan = Plan.make(settings, tuple(probe or ()), tuple(action or ()), quick=quick)
    with progress() as shown:
        found = measure(settings, plan, shown, command=shlex.join(["bench", *sys.argv[1:]]))
    if json:
        save(found, json)
    return present(found, before=before, html=html, others=others, check=check)


@app.command()
def show(
    file: FileArgument,
    html: HtmlOption = None,
    stages_json: StagesOption = None,
    overhead_json: OverheadOption = None,
    check: CheckOption = False,
    compare: CompareOption = None,
) -> int:
    """Show what `bench run --json FILE` wrote. Needs no root."""
    from bench.page import read_others
    from bench.report import read

    check_places(html)
    others = read_others(stages_json, overhead_json)
    return present(read(file), before=read(compare) if compare else None, html=html, others=others, check=check)


@app.command()
def e2e(
    config: ConfigOption = None,
    rate: Annotated[
        list[int] | None, typer.Option("--rate", min=1, help="Events a second; may be repeated. [default: 1000]")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long each rate is held.")] = 20,
    json: JsonOption = None,
) -> int:
    """From the kernel's time stamp to each sink's acknowledgement. Needs root.

    The sinks are those of --config, a file without it; the latencies are read where metrics.listen says.
    """
    from bench.e2e import measure, show
    from bench.progress import progress
    from bench.report import save
    from bench.table import console

    check_places(json)
    if not _is_root("bench e2e runs the collector"):
        return UNUSABLE
    with progress() as shown:
        found = measure(config, rate or [1000], seconds, shown, command=shlex.join(["bench", *sys.argv[1:]]))
    show(found, console())
    if json:
        save(found, json)
    return 0


@app.command()
def overhead(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each collector has its turn.")] = 6,
    quick: QuickOption = False,
    json: JsonOption = None,
) -> int:
    """What a real workload pays: without a collector, with Hookline, auditd and bpftrace. Needs root.

    What cannot run here is left out, and the reason said.
    """
    from bench.overhead import measure, show
    from bench.progress import progress
    from bench.report import save
    from bench.table import console

    check_places(json)
    if not _is_root("bench overhead runs collectors"):
        return UNUSABLE
    command = shlex.join(["bench", *sys.argv[1:]])
    with progress() as shown:
        found = measure(2 if quick else rounds, 0.25 if quick else 1.0, shown, command=command)
    show(found, console())
    if json:
        save(found, json)
    return 0


@app.command()
def stages(
    recording: Annotated[
        Path | None,
        typer.Option("--recording", metavar="FILE", help="Of `hookline record`. [default: one made now, as root]"),
    ] = None,
    json: JsonOption = None,
) -> int:
    """What each stage of the pipeline costs an event, in ns. Needs no root with --recording."""
    from bench.progress import progress
    from bench.report import save
    from bench.stages import measure, show
    from bench.table import console

    check_places(json)
    if recording is None and not _is_root("bench stages without --recording records executions"):
        return UNUSABLE
    with progress() as shown:
        found = measure(recording, shown, command=shlex.join(["bench", *sys.argv[1:]]))
    show(found, console())
    if json:
        save(found, json)
    return 0


@app.command()
def storm(json: JsonOption = None) -> int:
    """1,600 programs a second that were never seen before, for 30 s, beside auditd in turn. Needs root.

    It fails unless each is told with its digest, nothing is lost and the ledger closes.
    """
    from bench.progress import progress
    from bench.report import save
    from bench.storm import measure, show
    from bench.table import console

    check_places(json)
    if not _is_root("bench storm runs collectors"):
        return UNUSABLE
    with progress() as shown:
        found = measure(shown, command=shlex.join(["bench", *sys.argv[1:]]))
    show(found, console())
    if json:
        save(found, json)
    return 0


def _is_root(what: str) -> bool:
    """Whether root asks; says what is left out if not."""
    if os.geteuid() == 0:
        return True
    complain(f"{what}, which needs root: all of it is left out; without root there is `hookline bench stages`")
    return False


def present(found: Report, *, before: Report | None, html: Path | None, others: Others, check: bool) -> int:
    """Print the report, and whatever else is asked for; gives the exit code."""
    from bench.comparison import show_change
    from bench.page import write_page
    from bench.table import console, verdict
    from bench.table import show as print_report

    out = console()
    print_report(found, out)
    if before:
        show_change(before, found, out)
    if html:
        write_page(html, found, others)
    return verdict(found, out) if check else 0


def main() -> None:
    """The console script."""
    sys.exit(invoke(sys.argv[1:], app, "bench"))
