# SPDX-License-Identifier: GPL-2.0-or-later
"""What went wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator

from pipeline.tables import ConfigError
from probes.errors import ProbeError
from probes.text import printable
from sinks.protocol import SinkClosed, SinkError

FAILED = 1
"""The ledger did not close, or something failed on the way."""

UNUSABLE = 2
"""Usage, configuration, or a host that cannot run it."""

_INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended before it could do anything."""


def tell(lines: Iterable[str]) -> None:
    """Write to standard error; where that is closed there is nobody to tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in lines:
            print(line, file=sys.stderr, flush=True)


def complain(sentence: str) -> None:
    """One line on standard error, free of control characters."""
    tell([f"hookline: {printable(sentence)}"])


def report(error: BaseException) -> int:
    """Tell of `error` and give the exit code.

    Raises:
        BaseException: `error` itself, where it is nothing that was foreseen. A traceback is right for a bug.
    """
    judged = {each: _judge(each) for each in _leaves(error)}
    if None in judged.values():
        raise error
    told: set[str] = set()
    for each, verdict in judged.items():
        if verdict and verdict[1] and verdict[1] not in told:
            told.add(verdict[1])
            complain(verdict[1])
            tell(getattr(each, "__notes__", ()))
    return max(verdict[0] for verdict in judged.values() if verdict)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """What trio's nurseries wrapped."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _judge(error: BaseException) -> tuple[int, str] | None:
    match error:
        case SinkClosed():
            return 0, ""
        case KeyboardInterrupt():
            return _INTERRUPTED, ""
        case ConfigError() | ProbeError() | SinkError():
            return UNUSABLE, str(error)
        case OSError():
            where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
            return FAILED, f"{where}{error.strerror or error}"
        case _:
            return None
