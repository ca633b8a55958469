# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on standard output: readable lines on a terminal, NDJSON into a pipe."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sinks.console.config import ConsoleConfig
from sinks.protocol import Sink

__all__ = ["ConsoleConfig", "open_sink"]


def open_sink(config: ConsoleConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError. trio is imported here, not by those who read a configuration."""
    from sinks.console.sink import open_sink as opened

    return opened(config)
