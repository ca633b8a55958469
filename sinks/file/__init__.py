# SPDX-License-Identifier: GPL-2.0-or-later
"""NDJSON appended to a file that turns over by size and age."""

from __future__ import annotations

from sinks.file.config import FileConfig
from sinks.file.sink import open_sink

__all__ = ["FileConfig", "open_sink"]
