# SPDX-License-Identifier: GPL-2.0-or-later
"""What sinks have not acknowledged yet, in one SQLite file."""

from __future__ import annotations

from sinks.spool.config import SpoolConfig
from sinks.spool.store import Spool, SpoolFull, Stored

__all__ = ["Spool", "SpoolConfig", "SpoolFull", "Stored"]
