# SPDX-License-Identifier: GPL-2.0-or-later
"""The kafka sink against a real broker."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.spooled import Spooled
from sinks.deadletters import read
from sinks.kafka import KafkaConfig, open_sink
from sinks.protocol import SinkError, SinkUnavailable
from tests.live.tools import Lines, until
from tests.servers.kafka import Kafka
from tests.services import topics

DOCS = Path(__file__).parents[2] / "docs"


def event(number: int, process: int = 0, padding: int = 0) -> bytes:
    fields = {
        "data_type": "59",
        "event_id": f"run-59-0-{number}",
        "entity_id": f"boot-{process}-1",
        "hostname": "box",
        "user": "root",
        "exe": "/usr/bin/true",
        "argv": f"true {number} " + os.urandom(padding // 2).hex(),
    }
    return json.dumps(fields).encode() + b"\n"


def batch(*lines: bytes) -> Spooled:
    return Spooled(b"".join(lines), {59: len(lines)}, stored=0.0)


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> dict[str, Any]:
    """What a test's sink is configured with."""
    return {
        "servers": (kafka.address,),
        "timeout_s": 3.0,
        "dead_letter_file": str(tmp_path / "dead.ndjson"),
        "agent_id": "agent",
    }


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return topics.create(kafka.address, topics.fresh_name())


def numbers(kafka: Kafka, topic: str) -> list[int]:
    """The events in `topic`, sorted."""
    return sorted(
        int(json.loads(each.value)["event_id"].rpartition("-")[2]) for each in topics.read_all(kafka.address, topic)
    )


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
async def test_messages(kafka: Kafka, topic: str, settings: dict[str, Any], compression: str) -> None:
    """Each line is one message, byte for byte, with its headers; a process's events are in one partition, in order."""
    lines = [event(number, process=number % 7) for number in range(700)]
    config = KafkaConfig(topic=topic, compression=compression, **settings)  # type: ignore[arg-type]
    async with open_sink(config) as sink:
        assert not await sink.deliver(batch(*lines[:500]))
        assert not await sink.deliver(batch(*lines[500:]))
        assert sink.statistics()["messages"] == 700
    received = topics.read_all(kafka.address, topic)
    assert sorted(each.value + b"\n" for each in received) == sorted(lines)
    assert {tuple(each.headers.items()) for each in received} == {
        (("data_type", b"59"), ("schema", b"smith"), ("agent_id", b"agent"))
    }
    for process in range(7):
        own = [each for each in received if each.key == f"boot-{process}-1".encode()]
        assert len({each.partition for each in own}) == 1
        assert [each.value + b"\n" for each in own] == lines[process::7]
    assert len({each.partition for each in received}) > 1


async def test_too_large_for_the_producer_and_for_the_broker(kafka: Kafka, settings: dict[str, Any]) -> None:
    """Too large a message is a dead letter with its reason; all others of its batch are delivered."""
    topic = topics.create(kafka.address, topics.fresh_name(), max_message_bytes="300000")
    lines = [event(0), event(1, padding=400_000), event(2), event(3, padding=2_000_000), event(4)]
    async with open_sink(KafkaConfig(topic=topic, compression="none", **settings)) as sink:
        assert await sink.deliver(batch(*lines)) == {59: 2}
        assert not await sink.deliver(batch(event(5)))
    assert numbers(kafka, topic) == [0, 2, 4, 5]
    letters = list(read(Path(settings["dead_letter_file"]), lambda sentence, _line: pytest.fail(sentence)))
    assert sorted(bytes(each.event) + b"\n" for each in letters) == sorted([lines[1], lines[3]])
    assert all("larger than" in each.reason for each in letters)


async def test_a_missing_topic(kafka: Kafka, settings: dict[str, Any]) -> None:
    """A topic that does not exist is said, with the remedy; once it is there the batch is delivered, once."""
    topic = topics.fresh_name()
    settings["timeout_s"] = 1.0
    async with open_sink(KafkaConfig(topic=topic, **settings)) as sink:
        waiting = batch(*(event(number) for number in range(10)))
        with pytest.raises(SinkUnavailable, match="the topic does not exist"):
            await sink.deliver(waiting)
        await trio.to_thread.run_sync(topics.create, kafka.address, topic)
        assert not await sink.deliver(waiting)
    assert numbers(kafka, topic) == list(range(10))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("place", ["silent", "nobody", "no-such-host.invalid:9092"])
async def test_no_broker(request: pytest.FixtureRequest, settings: dict[str, Any], place: str) -> None:
    """Nobody there, a name that does not resolve, a server that says nothing: refused in time, with the reason."""
    settings["servers"] = (place if ":" in place else request.getfixturevalue(place),)
    settings["timeout_s"] = 0.5
    with trio.fail_after(10):
        async with open_sink(KafkaConfig(topic="t", **settings)) as sink:
            with pytest.raises(SinkUnavailable, match="no broker answers"):
                await sink.deliver(batch(event(0)))


async def test_secrets_that_cannot_be_read(settings: dict[str, Any], tmp_path: Path) -> None:
    """A missing password file or certificate is an error of the configuration, said at the start."""
    secret = {"security": "sasl_plaintext", "user": "u", "password_file": str(tmp_path / "none")}
    for table in (secret, {"security": "ssl", "ca_file": str(tmp_path / "none")}):
        with pytest.raises(SinkError, match=r"can(not)? be read"):
            async with open_sink(KafkaConfig(**settings, **table)):  # type: ignore[arg-type]
                pass


async def test_the_consumer_in_the_documentation(
    kafka: Kafka, topic: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    """The example of docs/consuming.md prints each execution once, though it was sent twice."""
    [code] = re.findall(r"```python\n(.*?)```", (DOCS / "consuming.md").read_text(encoding="utf-8"), re.DOTALL)
    consumer = tmp_path / "consumer.py"
    consumer.write_text(code, encoding="utf-8")
    async with open_sink(KafkaConfig(topic=topic, **settings)) as sink:
        for numbers_sent in (range(5), range(3, 8)):
            await sink.deliver(batch(*(event(number) for number in numbers_sent)))
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        process = subprocess.Popen([sys.executable, consumer, kafka.address, topic], stdout=output)
    try:
        lines: list[bytes] = []

        def all_there() -> bool:
            lines.extend(reader)
            return len(lines) >= 8

        reader = Lines(printed)
        until(all_there, "eight executions")
    finally:
        process.terminate()
        process.wait()
    assert Counter(lines) == Counter(f"box root /usr/bin/true true {number} ".encode() for number in range(8))
