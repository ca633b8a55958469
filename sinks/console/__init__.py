# SPDX-License-Identifier: GPL-2.0-or-later
"""Events on standard output: readable lines on a terminal, NDJSON into a pipe."""

from __future__ import annotations

from sinks.console.config import ConsoleConfig
from sinks.console.sink import open_sink

__all__ = ["ConsoleConfig", "open_sink"]
