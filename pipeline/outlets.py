# SPDX-License-Identifier: GPL-2.0-or-later
"""Which sink a configuration asks for."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import sinks.console
import sinks.elasticsearch
import sinks.file
import sinks.kafka
from sinks.protocol import Sink, SinkConfig


def open_sink(config: SinkConfig) -> AbstractAsyncContextManager[Sink]:
    """The sink that `config`'s type names. Entering raises SinkError if it cannot be opened."""
    match config:
        case sinks.file.FileConfig():
            return sinks.file.open_sink(config)
        case sinks.elasticsearch.ElasticsearchConfig():
            return sinks.elasticsearch.open_sink(config)
        case sinks.console.ConsoleConfig():
            return sinks.console.open_sink(config)
        case sinks.kafka.KafkaConfig():
            return sinks.kafka.open_sink(config)
        case _:
            raise TypeError(f"no sink takes a {type(config).__name__}")
