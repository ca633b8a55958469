# SPDX-License-Identifier: GPL-2.0-or-later
"""A broker that dies, hangs and comes back: nothing is lost, and what comes twice has one id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from sinks.protocol import SinkConfig
from tests.faults.flow import Flow, flowing
from tests.servers.kafka import Kafka
from tests.services import topics


@pytest.fixture
def broker(kafka: Kafka) -> Iterator[Kafka]:
    """The shared broker, which answers again after the test, whatever that did."""
    yield kafka
    kafka.server.thaw()
    if not kafka.server.is_running():
        kafka.server.start()


@pytest.fixture
def sinks(broker: Kafka, tmp_path: Path) -> dict[str, SinkConfig]:
    """The broker, and beside it a file."""
    return {
        "kafka": KafkaConfig(
            servers=(broker.address,),
            topic=topics.create(broker.address, topics.fresh_name()),
            queue_batches=2,
            timeout_s=1.0,
            dead_letter_file=str(tmp_path / "dead"),
        ),
        "file": FileConfig(path=str(tmp_path / "events"), when_full="block"),
    }


def received(broker: Kafka, config: SinkConfig) -> list[str]:
    assert isinstance(config, KafkaConfig)
    return [json.loads(each.value)["event_id"] for each in topics.read_all(broker.address, config.topic)]


async def go_on_without_it(flow: Flow, before: int) -> None:
    """Offer more while the broker is away: the file gets it at once, and the broker's share waits on the disk."""
    await flow.offer(60)
    await flow.until_delivered("file", before + 6000, limit_s=20)
    assert flow.account("kafka").delivered < before + 6000
    assert flow.delivery.statistics()["sink_kafka"]["spool_batches"] > 40


async def test_killed_and_restarted(broker: Kafka, sinks: dict[str, SinkConfig], tmp_path: Path) -> None:
    """SIGKILL in the middle of a stream: after the restart every event is there; the file never waited."""
    async with flowing(sinks, tmp_path) as flow:
        await flow.offer(20)
        await flow.until_delivered("kafka", 1000)
        broker.server.kill()
        await go_on_without_it(flow, 2000)
        await trio.to_thread.run_sync(broker.server.start)
        await flow.offer(20)
        await flow.until_delivered("kafka", len(flow.ids))
    assert set(received(broker, sinks["kafka"])) == set(flow.ids)
    assert len(flow.ids) == 10_000
    assert flow.account("kafka").delivered == 10_000


async def test_frozen_and_thawed(broker: Kafka, sinks: dict[str, SinkConfig], tmp_path: Path) -> None:
    """A broker that keeps its connections and says nothing for longer than the time-out: nothing is lost."""
    async with flowing(sinks, tmp_path) as flow:
        await flow.offer(20)
        await flow.until_delivered("kafka", 1000)
        broker.server.freeze()
        await go_on_without_it(flow, 2000)
        await trio.sleep(8)
        broker.server.thaw()
        await flow.offer(20)
        await flow.until_delivered("kafka", len(flow.ids))
    assert set(received(broker, sinks["kafka"])) == set(flow.ids)


async def test_a_dead_broker_and_the_next_run(broker: Kafka, sinks: dict[str, SinkConfig], tmp_path: Path) -> None:
    """What a run could not deliver by its deadline the next run delivers, all of it."""
    broker.server.kill()
    async with flowing(sinks, tmp_path) as flow:
        await flow.offer(50)
        flow.delivery.end_by(trio.current_time() + 1)
    assert (flow.account("kafka").spooled, flow.account("kafka").delivered) == (5000, 0)
    await trio.to_thread.run_sync(broker.server.start)
    async with flowing(sinks, tmp_path) as again:
        await again.until_delivered("kafka", 5000)
    assert (again.account("kafka").resumed, again.account("kafka").offered) == (5000, 0)
    assert set(received(broker, sinks["kafka"])) == set(flow.ids)
