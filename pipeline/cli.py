# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``hookline``.

Exit codes: 0, all went well (SIGTERM, SIGINT and the end of ``--duration`` end
a run well); 1, the ledger did not close or something failed on the way; 2,
wrong usage, a wrong configuration, or a host that cannot run it. Whatever goes
wrong is one line on standard error.

What a command needs is imported when it runs: see `pipeline.start`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.main import get_command

from pipeline.admin import deadletter_app, setup_app
from pipeline.failure import UNUSABLE, complain, report

_EPILOG = (
    "Exit codes: 0 all went well; 1 the ledger did not close or something failed on the way; "
    "2 wrong usage or configuration, or a host that cannot run it."
)

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,  # it would load rich: 60 ms a start
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
)

app.add_typer(setup_app, name="setup")
app.add_typer(deadletter_app, name="deadletter")


def _positive(seconds: float | None) -> float | None:
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        raise typer.BadParameter("must be a positive number of seconds")
    return seconds


ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration. [default: built-in defaults]")
]
DurationOption = Annotated[
    float | None,
    typer.Option(
        "--duration",
        metavar="SECONDS",
        callback=_positive,
        help="Stop after so long. [default: at SIGINT or SIGTERM]",
    ),
]
ProbeOption = Annotated[
    list[str] | None,
    typer.Option("--probe", metavar="NAME", help="Load this probe (or default, or all) only; may be repeated."),
]
AttachOption = Annotated[
    Literal["best", "fentry", "kprobe", "tracepoint", "uprobe"] | None,
    typer.Option("--attach", help="Take this form of each probe that has it. [default: best]"),
]
OutputOption = Annotated[
    str | None,
    typer.Option("--output", metavar="FILE|-", help="Write events here (-: standard output) and to no other sink."),
]
SchemaOption = Annotated[
    Literal["smith", "ecs"] | None, typer.Option("--schema", help="Field names of the output, at every sink.")
]
LedgerOption = Annotated[
    Path | None, typer.Option("--ledger", metavar="FILE", help="Write the ledger as JSON at the end.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Log at level debug, and show a compiler's or verifier's log.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"hookline {version('hookline')}")
        except PackageNotFoundError:
            typer.echo("hookline, not installed")
        raise typer.Exit


@app.callback()
def _hookline(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Collect what the kernel sees of this host: executions, connections, new files."""


@app.command(epilog=_EPILOG)
def run(
    config: ConfigOption = None,
    duration: DurationOption = None,
    probe: ProbeOption = None,
    attach: AttachOption = None,
    output: OutputOption = None,
    schema: SchemaOption = None,
    ledger: LedgerOption = None,
    verbose: VerboseOption = False,
) -> int:
    """Collect events until SIGINT, SIGTERM or --duration. Needs root.

    SIGHUP reads the configuration again: filters and sinks change, no event is lost.
    """
    from pipeline.start import Options, run

    options = Options(config, tuple(probe or ()), output, schema, debug=verbose, attach=attach)
    return run(options, duration_s=duration, ledger=ledger)


@app.command()
def doctor(
    config: ConfigOption = None,
    attach: AttachOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Tell what of Hookline this host can run, and how to mend the rest.

    Attaches every probe for a moment. Exit code 0 if at least one runs.
    """
    from pipeline.config import load
    from pipeline.doctor import examine, show
    from pipeline.settings import Collector

    collector = load(config).collector if config else Collector()
    return show(examine(attach=attach or collector.attach, cache=collector.cache), as_json=as_json, verbose=verbose)


@app.command()
def probes(
    as_json: JsonOption = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Every field in a sentence.")] = False,
) -> None:
    """List the probes: kind, data_type, mechanism, fields."""
    from pipeline.listing import show_probes

    show_probes(as_json=as_json, verbose=verbose)


@app.command(name="compile")
def compile_probes(config: ConfigOption = None, probe: ProbeOption = None, attach: AttachOption = None) -> int:
    """Compile probes for this kernel into the cache, so that the next start needs no compiler. Needs root."""
    from pipeline.start import Options, fill_cache

    return fill_cache(Options(config, tuple(probe or ()), attach=attach))


@app.command()
def check_config(file: FileArgument) -> None:
    """Say whether FILE is a valid configuration, and whether its file sinks have a place."""
    from pipeline.config import check_places, load

    config = load(file)
    check_places(config)
    sinks = ", ".join(config.sinks)
    typer.echo(f"{file} is valid: probes {', '.join(config.collector.probes)}; sinks {sinks}")


@app.command()
def record(
    file: FileArgument,
    duration: DurationOption = None,
    probe: ProbeOption = None,
    attach: AttachOption = None,
    config: ConfigOption = None,
    verbose: VerboseOption = False,
) -> int:
    """Write raw events to a new FILE, for replay. Needs root."""
    from pipeline.start import Options, record

    return record(Options(config, tuple(probe or ()), debug=verbose, attach=attach), file, duration_s=duration)


@app.command()
def replay(
    file: FileArgument,
    output: OutputOption = None,
    schema: SchemaOption = None,
    config: ConfigOption = None,
    ledger: LedgerOption = None,
    verbose: VerboseOption = False,
) -> int:
    """Deliver the events of a recording. Needs no root.

    They take the same way as events that come from the kernel, but nothing is dropped where a sink is slow.
    """
    from pipeline.start import Options, replay

    options = Options(config, output=output, schema=schema, debug=verbose, lossless=True)
    return replay(options, file, ledger=ledger)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    options_metavar="COMMAND",
)
def bench(context: typer.Context) -> None:
    """Tell what all this costs on this machine: run, stages, e2e, overhead. The same as the command bench."""
    # A program of its own: the collector knows nothing of its benches.
    command = [sys.executable, "-P", "-m", "bench", *context.args]
    os.execv(command[0], command)  # noqa: S606 - no shell is what is wanted


def invoke(arguments: Sequence[str], commands: typer.Typer = app, name: str = "hookline") -> int:
    """Run one command of those; gives the exit code."""
    try:
        code = get_command(commands).main(list(arguments), prog_name=name, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else name
        sentence = " ".join(error.format_message().split()).rstrip(".")
        complain(f"{sentence}; {path} --help tells more")
        return UNUSABLE
    except BaseException as error:
        return report(error)
    return code if isinstance(code, int) else 0


def _open_standard_descriptors() -> None:
    """Keep files of ours from landing on the numbers of a closed standard input, output or error."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    # Python has no objects for what was closed when it started. Output keeps none: who writes there must know.
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115


def main() -> None:
    """The console script."""
    _open_standard_descriptors()
    sys.exit(invoke(sys.argv[1:]))


if __name__ == "__main__":
    main()
