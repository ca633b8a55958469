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
        self._schemas: tuple[Schema, Schema] = ("smith", "ecs") if schema == "smith" else ("ecs", "smith")
        agent: Header = ("agent_id", agent_id.encode())

        @lru_cache(256)
        def of_kind(data_type: int, schema: Schema) -> tuple[str, list[Header]]:
            number = str(data_type)
            headers = [("data_type", number.encode()), ("schema", schema.encode()), agent]
            return topic.replace("{data_type}", number), headers

        self._of_kind = of_kind

    def __call__(self, lines: bytes) -> Iterator[Message]:
        """A message a line of NDJSON. Raises msgspec.DecodeError for lines that no encoder of ours made."""
        usual, other = self._schemas
        for line in lines.splitlines():
            schema = usual
            try:
                data_type, key = _read(line, usual)
            except msgspec.ValidationError:  # stored while the sink's schema was the other
                data_type, key = _read(line, other)
                schema = other
            topic, headers = self._of_kind(data_type, schema)
            yield Message(topic, key.encode() or None, line, headers)


def _read(line: bytes, schema: Schema) -> tuple[int, str]:
    """Kind and process."""
    if schema == "smith":
        event = _smith.decode(line)
        return event.data_type, event.entity_id
    document = _ecs.decode(line)
    return document.hookline.data_type, document.process.entity_id
