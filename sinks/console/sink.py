# SPDX-License-Identifier: GPL-2.0-or-later
"""The console sink as the pipeline sees it."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from sinks.console.line import LineWriter
from sinks.console.output import Output
from sinks.protocol import SinkClosed, SinkError, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from sinks.console.config import ConsoleConfig
    from sinks.protocol import Batch, Sink

# A pipe without a reader; a terminal that hung up.
_READER_GONE = frozenset({errno.EPIPE, errno.EIO})


@asynccontextmanager
async def open_sink(config: ConsoleConfig, *, fd: int | None = None) -> AsyncIterator[Sink]:
    """Write to ``fd``, or else to standard output, until the context is left. ``fd`` itself is not closed.

    Raises:
        SinkError: standard output is closed.
    """
    try:
        if fd is None:
            # What the program printed before must not come out after the events.
            sys.stdout.flush()
            fd = sys.stdout.fileno()
        output = Output(fd)
    except (AttributeError, OSError, ValueError) as error:
        raise SinkError("standard output is closed; redirect it or leave the console sink out") from error
    try:
        yield ConsoleSink(config, output, terminal=fd if os.isatty(fd) else None)
    finally:
        output.close()


class ConsoleSink:
    """Made by ``open_sink``."""

    def __init__(self, config: ConsoleConfig, output: Output, terminal: int | None) -> None:
        """``terminal``: a descriptor of it, if the output is one."""
        self._schema = config.schema
        self._output = output
        self._limiter = trio.CapacityLimiter(1)
        self._closed = False
        self._counters = {"batches": 0, "lines": 0, "bytes": 0, "write_errors": 0}
        self._measured = None if config.wide else terminal
        self._lines: LineWriter | None = None
        if config.format == "line" or (config.format == "auto" and terminal is not None):
            self._lines = LineWriter(colour=terminal is not None and _wants_colour())

    async def deliver(self, batch: Batch) -> None:
        """Write the batch. Cancelled while the reader is stuck, it gives up within 0.1 s.

        A batch that was refused or cancelled on the way may be out in part, since no terminal takes a line
        back: offered again, some lines come twice, but none is lost and no two share a line.

        Raises:
            SinkUnavailable: not all of the batch is out.
            SinkClosed: the reader went away.
        """
        if self._closed:
            raise SinkClosed("the reader of standard output went away")
        data = self._encode(batch)
        try:
            await trio.to_thread.run_sync(
                self._output.write, data, trio.from_thread.check_cancelled, limiter=self._limiter
            )
        except OSError as error:
            if error.errno in _READER_GONE:
                self._closed = True
                raise SinkClosed("the reader of standard output went away") from error
            self._counters["write_errors"] += 1
            raise SinkUnavailable(os.strerror(error.errno or 0)) from error
        self._counters["batches"] += 1
        self._counters["lines"] += len(batch)
        self._counters["bytes"] += len(data)

    async def reopen(self) -> None:
        """Nothing to take anew."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> Mapping[str, int]:
        """``batches``, ``lines``, ``bytes`` written; ``write_errors``: batches refused."""
        return dict(self._counters)

    def _encode(self, batch: Batch) -> bytes:
        if self._lines is None:
            return batch.encoded(self._schema)
        return self._lines.render(batch.events, batch.boot_offset_ns, self._columns())

    def _columns(self) -> int | None:
        if self._measured is None:
            return None
        try:
            # Asked anew for each batch: the window may have changed. A terminal without a size says 0.
            return os.get_terminal_size(self._measured).columns or None
        except OSError:
            return None


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
