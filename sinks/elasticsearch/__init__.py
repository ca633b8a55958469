# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as documents in Elasticsearch's data streams."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.protocol import Sink

if TYPE_CHECKING:
    from sinks.elasticsearch.client import Client

__all__ = ["ElasticsearchConfig", "connect", "open_sink"]

# Imported in the functions, so that who reads a configuration does not wait for trio and the client.


def open_sink(config: ElasticsearchConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError."""
    from sinks.elasticsearch.sink import open_sink as opened

    return opened(config)


def connect(config: ElasticsearchConfig) -> Client:
    """A client for requests of one's own, an async context manager. Raises SinkError."""
    from sinks.elasticsearch.client import Client as Connected

    return Connected(config)
