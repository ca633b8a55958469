# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of a batch as Kafka messages: topic, key, value, headers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from sinks.protocol import Schema

Header = tuple[str, bytes]


class Message(NamedTuple):
    """One event."""

    topic: str
    key: bytes | None
    """The process: its events go to one partition, and so stay in order."""

    value: bytes
    headers: list[Header]
    """A list, which aiokafka insists on; shared by all messages of a kind."""


class _Smith(msgspec.Struct):
    data_type: int
    entity_id: str = ""


class _EcsHookline(msgspec.Struct):
    data_type: int


class _EcsProcess(msgspec.Struct, frozen=True):
    entity_id: str = ""


class _Ecs(msgspec.Struct):
    hookline: _EcsHookline
    process: _EcsProcess = _EcsProcess()


# Texts that are numbers: every value is a text in smith.
_smith = msgspec.json.Decoder(_Smith, strict=False)
_ecs = msgspec.json.Decoder(_Ecs)


class Messages:
    """Makes the messages of one sink."""

    def __init__(self, topic: str, schema: Schema, agent_id: str) -> None:
        self._schema = schema
        constant: tuple[Header, ...] = (("schema", schema.encode()), ("agent_id", agent_id.encode()))

        @lru_cache(256)
        def of_kind(data_type: int) -> tuple[str, list[Header]]:
            number = str(data_type)
            return topic.replace("{data_type}", number), [("data_type", number.encode()), *constant]

        self._of_kind = of_kind

    def __call__(self, lines: bytes) -> Iterator[Message]:
        """A message a line of NDJSON. Raises msgspec.DecodeError for lines that no encoder of ours made."""
        for line in lines.splitlines():
            if self._schema == "smith":
                event = _smith.decode(line)
                data_type, key = event.data_type, event.entity_id
            else:
                document = _ecs.decode(line)
                data_type, key = document.hookline.data_type, document.process.entity_id
            topic, headers = self._of_kind(data_type)
            yield Message(topic, key.encode() or None, line, headers)
