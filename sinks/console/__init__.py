# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on standard output: readable lines on a terminal, NDJSON into a pipe."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sinks.console.config import ConsoleConfig
from sinks.protocol import Sink

__all__ = ["ConsoleConfig", "open_sink"]


def open_sink(config: ConsoleConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError."""
    # Here, so that who reads a configuration does not wait for trio.
    from sinks.console.sink import open_sink as opened

    return opened(config)
