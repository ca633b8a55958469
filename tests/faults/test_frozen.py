# SPDX-License-Identifier: GPL-2.0-or-later
"""Kafka and Elasticsearch stand still at the same time, beside a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from pipeline.setup.elasticsearch import setup
from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from tests.faults.flow import flowing
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.feeding import config_for, ids
from tests.servers.kafka import Kafka
from tests.services import topics

_FROZEN_S = 20


@pytest.fixture
def both(kafka: Kafka, elasticsearch_8: Elasticsearch) -> Iterator[tuple[Kafka, Elasticsearch]]:
    """Elasticsearch with its templates. They run again after the test, whatever it did."""
    assert setup(config_for(elasticsearch_8, Path("/nowhere")), None, dry_run=False, say=lambda _line: None) == 0
    yield kafka, elasticsearch_8
    kafka.server.thaw()
    elasticsearch_8.server.thaw()


async def test_both_stand_still(both: tuple[Kafka, Elasticsearch], tmp_path: Path) -> None:
    """Both frozen for 20 s while events flow: nothing lost, in Elasticsearch once, in Kafka twice only under one id."""
    kafka, search = both
    topic = topics.create(kafka.address, topics.fresh_name())
    index = config_for(search, tmp_path, when_full="spool", timeout_s=3.0)
    sinks = {
        "kafka": KafkaConfig(
            servers=(kafka.address,), topic=topic, timeout_s=3.0, dead_letter_file=str(tmp_path / "dead")
        ),
        "search": index,
        "file": FileConfig(path=str(tmp_path / "events"), when_full="block"),
    }
    async with flowing(sinks, tmp_path) as flow:
        await flow.offer(10)
        for name in sinks:
            await flow.until_delivered(name, 1000)
        with trio.fail_after(3 * _FROZEN_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flow.offer, 10)  # so that requests are under way
                kafka.server.freeze()
                search.server.freeze()
                for _ in range(_FROZEN_S):
                    await flow.offer(2)
                    await trio.sleep(1)
        await flow.until_delivered("file", len(flow.ids))
        assert flow.account("kafka").delivered < 4_000
        assert flow.account("search").delivered < 4_000
        kafka.server.thaw()
        search.server.thaw()
        for name in sinks:
            await flow.until_delivered(name, len(flow.ids))
    assert len(flow.ids) == 6_000
    assert ids(search, index) == sorted(flow.ids)
    received = [json.loads(each.value)["event_id"] for each in topics.read_all(kafka.address, topic)]
    assert set(received) == set(flow.ids)
