# SPDX-License-Identifier: GPL-2.0-or-later
"""From the options to a running collector.

The loader child takes most of the time between the start and the first event.
So it is started before anything is imported that it does not need: trio,
structlog and the stages are imported while it compiles.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pipeline.config import Config, ConfigError, load, map_settings, with_overrides
from pipeline.failure import FAILED, UNUSABLE, complain, tell
from probes.errors import LoadError
from probes.kernel.features import preflight
from probes.kernel.loader import Loading, request
from probes.probe import Attach
from sinks.protocol import Schema

if TYPE_CHECKING:
    from pipeline.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says over the configuration."""

    config: Path | None = None
    """None: the defaults."""

    probes: tuple[str, ...] = ()
    output: str | None = None
    schema: Schema | None = None
    debug: bool = False
    lossless: bool = False
    attach: Attach | None = None

    def configuration(self) -> Config:
        """Read the file (again) and apply the rest. Raises ConfigError."""
        return with_overrides(
            load(self.config) if self.config else Config(),
            probes=self.probes,
            attach=self.attach,
            output=self.output,
            schema=self.schema,
            debug=self.debug,
            lossless=self.lossless,
        )


def run(options: Options, *, duration_s: float | None, ledger: Path | None) -> int:
    """Collect; gives the exit code."""
    config = options.configuration()
    _check_place(ledger)
    with _loading(config) as loading:
        import trio

        from pipeline.log import set_up
        from pipeline.run import collect

        set_up(config.log)
        return _account(
            trio.run(partial(collect, config, loading, reload=options.configuration, duration_s=duration_s)),
            ledger,
        )


def record(options: Options, path: Path, *, duration_s: float | None) -> int:
    """Write raw records to `path`; gives the exit code."""
    config = options.configuration()
    _check_place(path)
    with _loading(config) as loading:
        import trio

        from pipeline.log import set_up
        from pipeline.run import record

        set_up(config.log)
        ledger = trio.run(partial(record, config, loading, path, duration_s=duration_s))
    tell(
        f"{kind.name}: recorded {kind.emitted - kind.dropped_ring:,}, "
        f"dropped by the ring {kind.dropped_ring:,}, filtered {kind.filtered:,}"
        for kind in ledger.kinds.values()
        if kind.emitted or kind.filtered
    )
    return 0


def replay(options: Options, path: Path, *, ledger: Path | None) -> int:
    """Run a recording through the stages; gives the exit code."""
    config = options.configuration()
    _check_place(ledger)
    import trio

    from pipeline.log import set_up
    from pipeline.run import replay

    set_up(config.log)
    return _account(trio.run(replay, config, path), ledger)


def fill_cache(options: Options) -> int:
    """Compile what `run` would load and the cache lacks; gives the exit code: 0 if something can run."""
    config = options.configuration()
    if not config.collector.cache:
        raise ConfigError("collector.cache is empty: name a folder to compile into")
    with _loading(config, compile_only=True) as loading:
        loaded = loading.wait()
    reports = loaded.reports.values()
    tell(f"{report.name} cannot run here: {report.error}" for report in reports if report.error)
    good = [report for report in reports if not report.error]
    tell([f"{len(good)} probes are in {config.collector.cache}, {sum(each.compiled for each in good)} of them new"])
    return 0 if good else UNUSABLE


@contextlib.contextmanager
def _loading(config: Config, *, compile_only: bool = False) -> Iterator[Loading]:
    """A loader child at work, which does not outlive the context."""
    preflight()
    collector = config.collector
    wanted = request(
        collector.probes,
        ring_bytes=collector.ring_bytes,
        settings=map_settings(config, os.getpid()),
        attach=collector.attach,
        cache=collector.cache,
        compile_only=compile_only,
    )
    with contextlib.closing(Loading(wanted)) as loading:
        try:
            yield loading
        except* LoadError as group:
            # One sentence is for everybody, the compiler's log for who asks for it.
            if config.log.level == "debug":
                _note_log(group)
            raise


def _note_log(group: BaseExceptionGroup[LoadError]) -> None:
    for error in group.exceptions:
        if isinstance(error, LoadError):
            error.add_note(error.log)
        else:
            _note_log(error)


def _check_place(path: Path | None) -> None:
    """Refuse now what could not be written at the end."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{path} is a directory: name a file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{path} cannot be written: {path.parent} is not a folder that this user may write to")


def _account(ledger: Ledger, path: Path | None) -> int:
    tell(ledger.lines())
    if path is not None:
        _write_private(path, msgspec.json.format(msgspec.json.encode(ledger.report()), indent=2) + b"\n")
    if ledger.is_closed():
        return 0
    complain("the ledger does not close: some events are neither delivered nor counted as dropped")
    return FAILED


def _write_private(path: Path, content: bytes) -> None:
    """Replace `path` as a whole, mode 0600: a reader sees the old content or the new."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
