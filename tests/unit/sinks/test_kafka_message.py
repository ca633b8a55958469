# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines become messages: topic, key, value and headers, from lines of either schema."""

from __future__ import annotations

import msgspec
import pytest

from sinks.kafka import KafkaConfig
from sinks.kafka.message import Messages

SMITH = (
    b'{"data_type":"59","pid":"7","event_id":"r-59-0-1","entity_id":"boot-7-99"}\n'
    b'{"data_type":"900","event_id":"r-900-0-1"}\n'
)
ECS = (
    b'{"event":{"id":"r-59-0-1"},"hookline":{"data_type":59,"cpu":0},"process":{"entity_id":"boot-7-99","pid":7}}\n'
    b'{"event":{"id":"r-900-0-1"},"hookline":{"data_type":900,"gap":{"first":1}}}\n'
)


@pytest.mark.parametrize(("schema", "lines"), [("smith", SMITH), ("ecs", ECS)])
def test_messages(schema: str, lines: bytes) -> None:
    """The key is the process, the value the line without its end, the headers say what it is; a gap has no key."""
    execution, gap = Messages("events", schema, "machine")(lines)  # type: ignore[arg-type]
    assert execution == (
        "events",
        b"boot-7-99",
        lines.split(b"\n")[0],
        [("data_type", b"59"), ("schema", schema.encode()), ("agent_id", b"machine")],
    )
    assert (gap.topic, gap.key, gap.value) == ("events", None, lines.split(b"\n")[1])
    assert dict(gap.headers)["data_type"] == b"900"


def test_a_topic_a_kind() -> None:
    """The kind's number takes the place that the configuration gives it."""
    topics = [message.topic for message in Messages("host.{data_type}.v1", "smith", "")(SMITH)]
    assert topics == ["host.59.v1", "host.900.v1"]


@pytest.mark.parametrize(("schema", "other", "lines"), [("smith", b"ecs", ECS), ("ecs", b"smith", SMITH)])
def test_lines_of_the_other_schema(schema: str, other: bytes, lines: bytes) -> None:
    """A line that was stored while the sink had the other schema is a message that says so."""
    execution, gap = Messages("events", schema, "machine")(lines)  # type: ignore[arg-type]
    assert [dict(each.headers)["schema"] for each in (execution, gap)] == [other, other]
    assert (execution.key, gap.key) == (b"boot-7-99", None)


def test_lines_of_nobody() -> None:
    """A line that is no event is an error, not a message without a key."""
    with pytest.raises(msgspec.DecodeError):
        list(Messages("t", "smith", "")(b'{"pid":"1"}\n'))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"security": "sasl_ssl", "user": "u"}, "user and password_file"),
        ({"cert_file": "c"}, "cert_file and key_file"),
        ({"topic": "t-{kind}"}, "no other braces"),
        ({"servers": ("localhost:abc",)}, "servers must have ports"),
        ({"servers": ("localhost:99999",)}, "servers must have ports"),
        ({"servers": ("localhost:0",)}, "servers must have ports"),
        ({"servers": (":9092",)}, "servers must name hosts, which '' is not"),
        ({"servers": (f"{'a' * 64}:1",)}, "servers must name hosts"),
        ({"servers": ("\u00e4" * 64,)}, "servers must name hosts"),
        ({"servers": ("a b:1",)}, "servers must name hosts"),
        ({"password_file": "a\0b"}, "password_file must not hold a NUL"),
    ],
)
def test_what_does_not_fit(table: dict[str, str], sentence: str) -> None:
    """Keys that need each other are refused without each other, and so are values that the client chokes on."""
    with pytest.raises(ValueError, match=sentence):
        KafkaConfig(**table)  # type: ignore[arg-type]


@pytest.mark.parametrize("server", ["localhost", "h.example.org.:1", "127.0.0.1:65535", "::1", "[::1]", "[::1]:9092"])
def test_servers(server: str) -> None:
    """Every form that the client reads is taken."""
    assert KafkaConfig(servers=(server,)).servers == (server,)
