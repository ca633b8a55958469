# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pipeline's stages cost beside a bare loop over the same client, for each sink, in turn."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trio
from pytest_benchmark.fixture import BenchmarkFixture

from bench import bare
from bench.bare import BATCH_EVENTS, Documents
from bench.workload import Workload
from pipeline.batch import Batch
from pipeline.run import settle_interpreter
from pipeline.setup.elasticsearch import setup
from sinks.elasticsearch import ElasticsearchConfig
from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.feeding import config_for
from tests.servers.kafka import Kafka
from tests.servers.running import AnyServer, of_session
from tests.services import topics

_BULK = b'{"create":{"_index":"logs-%s-%s","_id":"%s"}}\n%s\n'


@pytest.fixture(scope="module")
def documents(executions: Workload) -> Documents:
    settle_interpreter()
    return Documents(executions)


def server(name: str) -> Iterator[AnyServer]:
    with of_session(name) as running:
        yield running


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    yield from server("kafka")  # type: ignore[misc] # the name says which


@pytest.fixture(scope="module")
def elasticsearch() -> Iterator[Elasticsearch]:
    yield from server("elasticsearch-8")  # type: ignore[misc] # the name says which


def in_turn(
    benchmark: BenchmarkFixture,
    rounds: int,
    events: int,
    by_hand: Callable[[], float],
    by_pipeline: Callable[[], float],
) -> None:
    """Both in each round, now the one first and now the other; what is reported of each round is their ratio too."""
    seconds: dict[str, list[float]] = {"by_hand": [], "by_pipeline": []}
    ways = {"by_hand": by_hand, "by_pipeline": by_pipeline}

    def run() -> None:
        odd = len(seconds["by_hand"]) % 2
        for name in sorted(ways, reverse=bool(odd)):
            seconds[name].append(ways[name]())

    benchmark.pedantic(run, rounds=rounds)  # type: ignore[no-untyped-call]
    for name, taken in seconds.items():
        rates = sorted(round(events / each) for each in taken)
        benchmark.extra_info[name] = {"events_per_second": statistics.median(rates), "min": rates[0], "max": rates[-1]}
    ratios = sorted(hand / pipeline for hand, pipeline in zip(*seconds.values(), strict=True))
    benchmark.extra_info["ratio"] = {
        "median": round(statistics.median(ratios), 3),
        "min": round(ratios[0], 3),
        "max": round(ratios[-1], 3),
    }
    benchmark.extra_info["events"] = events


def file_config(folder: Path) -> FileConfig:
    (folder / "events").unlink(missing_ok=True)
    return FileConfig(path=str(folder / "events"), when_full="block", rotate_bytes=0, rotate_age_s=0)


def test_file(benchmark: BenchmarkFixture, documents: Documents, tmp_path: Path) -> None:
    """Events to lines on the disk: encode, write(2), fsync each second and at the end; by our stages, or a loop."""
    lists = 8 * documents.lists()  # else a round is over before both threads are at work
    in_turn(
        benchmark,
        9,
        sum(map(len, lists)),
        lambda: bare.file_by_hand(file_config(tmp_path), lists, documents.encoder()),
        lambda: trio.run(bare.file_by_pipeline, file_config(tmp_path), lists, documents.encoder()),
    )


def test_file_of_ready_lines(benchmark: BenchmarkFixture, documents: Documents, tmp_path: Path) -> None:
    """Lines that are encoded already to the disk: by the deliver stage, or a loop of write(2) and fsync(2)."""
    batches = documents.batches("smith", 40)

    async def ready_lines(config: FileConfig) -> float:
        return await bare.by_pipeline(config, batches[:4], 4 * batches, sync=Path(config.path))

    in_turn(
        benchmark,
        9,
        4 * len(batches) * BATCH_EVENTS,
        lambda: bare.ready_lines_by_hand(file_config(tmp_path), 4 * batches),
        lambda: trio.run(ready_lines, file_config(tmp_path)),
    )


def test_kafka(benchmark: BenchmarkFixture, documents: Documents, kafka: Kafka, tmp_path: Path) -> None:
    """Lines to Kafka: by the deliver stage, or messages made beforehand into aiokafka's `send`."""
    warm, batches = 4, 28

    def config() -> KafkaConfig:
        topic = topics.create(kafka.address, topics.fresh_name())
        return KafkaConfig(
            servers=(kafka.address,), topic=topic, when_full="block", dead_letter_file=str(tmp_path / "dead")
        )

    def messages(some: Sequence[Batch]) -> list[bare.Message]:
        made = []
        for line in b"".join(batch.encoded("smith") for batch in some).splitlines():
            event = json.loads(line)
            headers = [("data_type", event["data_type"].encode()), ("schema", b"smith"), ("agent_id", b"bench")]
            made.append((event["entity_id"].encode(), line, headers))
        return made

    def by_hand() -> float:
        made = documents.batches("smith", warm + batches)
        return asyncio.run(bare.kafka_by_hand(config(), messages(made[:warm]), messages(made[warm:])))

    def by_pipeline() -> float:
        made = documents.batches("smith", warm + batches)
        return trio.run(bare.by_pipeline, config(), made[:warm], made[warm:])

    in_turn(benchmark, 5, batches * BATCH_EVENTS, by_hand, by_pipeline)


def test_elasticsearch(
    benchmark: BenchmarkFixture, documents: Documents, elasticsearch: Elasticsearch, tmp_path: Path
) -> None:
    """Lines to Elasticsearch: by the deliver stage, or bodies made beforehand into the client, four at a time."""
    warm, batches = 6, 14

    def config() -> ElasticsearchConfig:
        fresh = config_for(elasticsearch, tmp_path)
        assert setup(fresh, None, dry_run=False, say=lambda _line: None) == 0
        return fresh

    def bodies(some: Sequence[Batch], config: ElasticsearchConfig) -> list[bytes]:
        made, body = [], b""
        for line in b"".join(batch.encoded("ecs") for batch in some).splitlines():
            document = json.loads(line)
            names = (document["data_stream"]["dataset"], config.namespace, document["event"]["id"])
            pair = _BULK % (*(name.encode() for name in names), line)
            if len(body) + len(pair) > config.bulk_bytes:
                made.append(body)
                body = b""
            body += pair
        return [*made, body]

    def by_hand() -> float:
        made, fresh = documents.batches("ecs", warm + batches), config()
        some = bodies(made[:warm], fresh), bodies(made[warm:], fresh)
        return trio.run(bare.elasticsearch_by_hand, fresh, *some)

    def by_pipeline() -> float:
        made = documents.batches("ecs", warm + batches)
        return trio.run(bare.by_pipeline, config(), made[:warm], made[warm:])

    in_turn(benchmark, 5, batches * BATCH_EVENTS, by_hand, by_pipeline)
