# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector says about itself: structlog on standard error, as lines for people or as JSON."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, TextIO

# structlog loads these where it can, for tracebacks and threads that are not here: 5 MB in every collector. So this
# module is imported before any other that imports structlog (`pipeline.start`).
_UNWANTED = ("rich", "greenlet")
_loaded = {name: sys.modules.pop(name) for name in _UNWANTED if name in sys.modules}
sys.modules.update(dict.fromkeys(_UNWANTED))  # type: ignore[arg-type] # how importlib is told that there is none
import structlog  # noqa: E402 # see above

for _name in _UNWANTED:
    del sys.modules[_name]
sys.modules.update(_loaded)

from pipeline.settings import Log  # noqa: E402 # see above
from probes.text import printable  # noqa: E402 # see above

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


class _Lines:
    """A logger that a closed or full standard error cannot hurt: the collector matters more than its log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        # ValueError: the stream was closed.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    log = debug = info = warn = warning = fatal = failure = error = critical = exception = msg


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Paths and names come from the host; none of them may move the cursor or forge a line."""
    return {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}


def set_up(config: Log, stream: TextIO | None = None) -> None:
    """Make ``structlog.get_logger()`` write to `stream`, or else to standard error, as `config` says."""
    stream = stream or sys.stderr
    for_people = config.format == "console" or (config.format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    if for_people:
        colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        shared += [
            _escape_controls,
            structlog.dev.ConsoleRenderer(
                colors=colours, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
            ),
        ]
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, config.level.upper())),
        logger_factory=lambda *_names: _Lines(stream),
    )
