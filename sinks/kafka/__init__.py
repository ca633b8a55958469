# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as Kafka messages, one a line, in the order of each process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from sinks.kafka.config import KafkaConfig
from sinks.protocol import Sink

__all__ = ["KafkaConfig", "open_sink"]


def open_sink(config: KafkaConfig) -> AbstractAsyncContextManager[Sink]:
    """Open the sink; entering raises SinkError."""
    # Here, so that who reads a configuration does not wait for trio and aiokafka.
    from sinks.kafka.sink import open_sink as opened

    return opened(config)
