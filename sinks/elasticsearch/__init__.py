# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as documents in Elasticsearch's data streams."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.elasticsearch.errors import Refused, Unreachable
from sinks.protocol import Sink

if TYPE_CHECKING:
    from sinks.elasticsearch.client import Client
    from sinks.elasticsearch.letters import Replayed

__all__ = ["ElasticsearchConfig", "Refused", "Unreachable", "connect", "import_into_kibana", "open_sink", "replay"]

# Imported in the functions, so that who reads a configuration does not wait for trio and the client.


def open_sink(config: ElasticsearchConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError."""
    from sinks.elasticsearch.sink import open_sink as opened

    return opened(config)


def connect(config: ElasticsearchConfig) -> Client:
    """A client for requests of one's own, an async context manager. Raises SinkError."""
    from sinks.elasticsearch.client import Client as Connected

    return Connected(config)


async def import_into_kibana(config: ElasticsearchConfig, url: str, ndjson: bytes) -> None:
    """Create or replace Kibana's saved objects; see `sinks.elasticsearch.kibana`."""
    from sinks.elasticsearch.kibana import import_into_kibana

    await import_into_kibana(config, url, ndjson)


async def replay(config: ElasticsearchConfig) -> Replayed:
    """Send the dead letters again; see `sinks.elasticsearch.letters`."""
    from sinks.elasticsearch.letters import replay

    return await replay(config)
