# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of a console sink may hold."""

from __future__ import annotations

from typing import ClassVar, Literal

from sinks.protocol import SinkConfig


class ConsoleConfig(SinkConfig, frozen=True, kw_only=True, tag="console"):
    """A table with ``type = "console"``."""

    reads_events: ClassVar[bool] = True

    format: Literal["auto", "line", "json"] = "auto"
    """``line``: one readable line an event; ``json``: NDJSON of ``schema``; ``auto``: line on a terminal."""

    wide: bool = False
    """Whether readable lines may be longer than the terminal is wide, in columns."""
