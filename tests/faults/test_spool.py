# SPDX-License-Identifier: GPL-2.0-or-later
"""The spool where its disk is full or its file is no spool any more, and one sink's trouble beside another sink."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from sinks.protocol import SinkConfig
from tests.faults.flow import Flow, flowing
from tests.live.disks import Disk, small_disk
from tests.servers.kafka import Kafka
from tests.services import topics

_SINKS_S = 30.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small disk")
    with small_disk(tmp_path / "disk", ballast_kib=400) as disk:
        yield disk


@pytest.fixture
def sinks(kafka: Kafka, tmp_path: Path) -> dict[str, SinkConfig]:
    """A topic that is not there yet, and beside it a file."""
    return {
        "kafka": KafkaConfig(
            servers=(kafka.address,),
            topic=topics.fresh_name(),
            queue_batches=1,
            timeout_s=0.5,
            dead_letter_file=str(tmp_path / "dead"),
        ),
        "file": FileConfig(path=str(tmp_path / "events"), when_full="block"),
    }


def topic_of(sinks: dict[str, SinkConfig]) -> str:
    config = sinks["kafka"]
    assert isinstance(config, KafkaConfig)
    return config.topic


async def until_dropped(flow: Flow) -> None:
    """Offer until the spool has no room."""
    with trio.fail_after(_SINKS_S):
        while not flow.account("kafka").dropped_spool:
            await flow.offer(10)


def said(logs: Sequence[Mapping[str, Any]], event: str) -> list[Mapping[str, Any]]:
    return [entry for entry in logs if entry["event"] == event and entry["sink"] == "kafka"]


async def until(look: Callable[[], bool]) -> None:
    with trio.fail_after(_SINKS_S):
        while not look():  # noqa: ASYNC110 - neither logs nor ledgers tell when they change
            await trio.sleep(0.01)


@pytest.mark.parametrize("relieved", ["before the receiver comes", "after"])
async def test_a_full_disk(
    disk: Disk, kafka: Kafka, sinks: dict[str, SinkConfig], relieved: str, tmp_path: Path
) -> None:
    """A full disk is said once, what finds no room is counted, nothing spins, and all that was stored arrives once.

    So it is too where the receiver comes back while the disk is still full, for forgetting a batch needs room as well.
    """
    with capture_logs() as logs:
        async with flowing(sinks, disk.path) as flow:
            await until_dropped(flow)
            await flow.offer(20)
            [full] = said(logs, "the spool takes nothing more")
            assert full["reason"] == "database or disk is full"
            before = time.process_time()
            await trio.sleep(1)
            assert time.process_time() - before < 0.5, "a busy loop"
            if relieved != "after":
                disk.relieve()
                await flow.offer(10)
                await until(lambda: bool(said(logs, "the spool takes batches again")))
            await trio.to_thread.run_sync(topics.create, kafka.address, topic_of(sinks))
            await until(lambda: flow.account("kafka").in_flight() == 0)
            await flow.offer(5)
            await flow.until_delivered("file", len(flow.ids))
    account = flow.account("kafka")
    assert account.delivered + account.dropped_spool == account.offered == len(flow.ids)
    received = [json.loads(each.value)["event_id"] for each in topics.read_all(kafka.address, topic_of(sinks))]
    assert len(received) == len(set(received)) == account.delivered
    assert set(received) <= set(flow.ids)


async def test_a_damaged_spool(kafka: Kafka, sinks: dict[str, SinkConfig], tmp_path: Path) -> None:
    """A spool that is damaged is set aside and reported, and the run begins with a new one that works."""
    spool = tmp_path / "spool.db"
    spool.write_bytes(b"no database at all" * 1000)
    with capture_logs() as logs:
        async with flowing(sinks, tmp_path) as flow:
            await flow.offer(10)
            await trio.to_thread.run_sync(topics.create, kafka.address, topic_of(sinks))
            await flow.until_delivered("kafka", 1000)
    [damaged] = [entry for entry in logs if entry["event"].startswith("the spool was damaged")]
    assert Path(damaged["file"]).read_bytes() == b"no database at all" * 1000


async def test_one_outage_and_the_latency_of_the_others(
    kafka: Kafka, sinks: dict[str, SinkConfig], tmp_path: Path
) -> None:
    """While one sink takes nothing and its batches go to the disk, each batch is in the other as soon as before."""

    async def slowest(flow: Flow) -> float:
        """Of 60 batches, one each 20 ms: the longest that one took to the file, the fifth of the slowest left out."""
        took = []
        for _ in range(60):
            started = trio.current_time()
            await flow.offer(1)
            await flow.until_delivered("file", len(flow.ids))
            took.append(trio.current_time() - started)
            await trio.sleep(0.02)
        return sorted(took)[len(took) * 4 // 5]

    await trio.to_thread.run_sync(topics.create, kafka.address, topic_of(sinks))
    async with flowing(sinks, tmp_path) as flow:
        well = await slowest(flow)
        await flow.until_delivered("kafka", len(flow.ids))
        kafka.server.freeze()
        try:
            await flow.offer(5)
            ill = await slowest(flow)
            assert flow.delivery.statistics()["sink_kafka"]["spool_batches"] > 40
        finally:
            kafka.server.thaw()
    assert flow.account("kafka").delivered == flow.account("file").delivered == len(flow.ids)
    assert ill < 2 * well + 0.05, (well, ill)
