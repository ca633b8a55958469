# SPDX-License-Identifier: GPL-2.0-or-later
"""NDJSON appended to a file that turns over by size and age."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sinks.file.config import FileConfig
from sinks.file.opening import check_place
from sinks.protocol import Sink

__all__ = ["FileConfig", "check_place", "open_sink"]


def open_sink(config: FileConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError."""
    # Here, so that who reads a configuration does not wait for trio.
    from sinks.file.sink import open_sink as opened

    return opened(config)
