# SPDX-License-Identifier: GPL-2.0-or-later
"""What sinks have not acknowledged yet, in one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sinks.spool.config import SpoolConfig

if TYPE_CHECKING:
    from sinks.spool.store import Spool

__all__ = ["SpoolConfig", "SpoolFull", "open_spool"]


class SpoolFull(Exception):
    """There is no room, in the configured bounds or on the disk: a few words say which."""


def open_spool(config: SpoolConfig, *, lost: Callable[[str, Mapping[int, int]], None]) -> Spool:
    """Open or create it; blocks. `lost(sink, events by kind)` is told of what is given up. Raises SinkError."""
    # Here, since most collectors never need SQLite.
    from sinks.spool.store import Spool

    spool = Spool(config, lost=lost)
    spool.open()
    return spool
