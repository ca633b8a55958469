# SPDX-License-Identifier: GPL-2.0-or-later
"""A file, Kafka and Elasticsearch at once, fed by the command that users run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from pipeline.setup.elasticsearch import setup
from tests.faults.recordings import multiplied, record_mixed
from tests.live.accounts import Outcome
from tests.live.collector import HOOKLINE, ROOT, Collector
from tests.live.tools import toml, until
from tests.ports import free_port
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.feeding import config_for, ids
from tests.servers.kafka import Kafka
from tests.services import topics
from tests.unit.pipeline.test_metrics import labelled, scrape

EVENTS = 200_000
_REPLAY_S = 540.0
_ARRIVAL_S = 120.0
SPOOLED = ("kafka", "search")


class _Smith(msgspec.Struct):
    event_id: str


_smith = msgspec.json.Decoder(_Smith)


def smith_ids(lines: Iterable[bytes]) -> list[str]:
    return [_smith.decode(line).event_id for line in lines]


class Receivers:
    """The configuration of the three sinks, and what arrived there."""

    def __init__(self, kafka: Kafka, search: Elasticsearch, folder: Path) -> None:
        self.kafka, self.search = kafka, search
        self.topic = topics.create(kafka.address, topics.fresh_name())
        self.file = folder / "events.ndjson"
        self.index = config_for(search, folder)
        assert setup(self.index, None, dry_run=False, say=lambda _line: None) == 0

    def tables(self, **keys: object) -> dict[str, dict[str, Any]]:
        folder = self.file.parent
        return {
            "metrics": {"listen": ""},
            "spool": {"path": str(folder / "spool.db")},
            "sinks.file": {"type": "file", "path": str(self.file), "when_full": "block", "rotate_bytes": 0},
            "sinks.kafka": {
                "type": "kafka",
                "servers": [self.kafka.address],
                "topic": self.topic,
                "dead_letter_file": str(folder / "dead.kafka"),
                "timeout_s": 2.0,
                **keys,
            },
            "sinks.search": {
                "type": "elasticsearch",
                "schema": "ecs",
                "hosts": [self.search.url],
                "namespace": self.index.namespace,
                "dead_letter_file": str(folder / "dead.search"),
                "timeout_s": 10.0,
                **keys,
            },
        }

    def spare_the_disk(self) -> None:
        """Let the node write in its own time: the test is of what arrives, not of what the node survives."""
        settings = {"refresh_interval": "-1", "number_of_replicas": 0, "translog": {"durability": "async"}}
        template = {
            "index_patterns": [f"logs-hookline.*-{self.index.namespace}"],
            "data_stream": {},
            "priority": 900,
            "composed_of": ["hookline@mappings", "hookline@settings"],
            "template": {"settings": {"index": settings}},
        }
        answer = self.search.ask("PUT", f"/_index_template/quick-{self.index.namespace}", template)
        assert answer == {"acknowledged": True}, answer

    def in_file(self) -> list[str]:
        return smith_ids(self.file.read_bytes().splitlines())

    def in_kafka(self) -> list[str]:
        return smith_ids(each.value for each in topics.read_all(self.kafka.address, self.topic))

    def in_search(self) -> list[str]:
        return ids(self.search, self.index)


@pytest.fixture
def receivers(kafka: Kafka, elasticsearch_8: Elasticsearch, tracefs: Path, tmp_path: Path) -> Iterator[Receivers]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to have the kernel's own events")
    # In the cache, so that no test waits for the compiler.
    subprocess.run([*HOOKLINE, "compile"], cwd=ROOT, check=True, capture_output=True, timeout=300)
    yield Receivers(kafka, elasticsearch_8, tmp_path)
    for server in (kafka.server, elasticsearch_8.server):
        server.thaw()


@pytest.mark.timeout(900)  # on a machine with other work
def test_the_same_events_everywhere(receivers: Receivers, tmp_path: Path) -> None:
    """200,000 mixed events through all stages to three sinks: the same ids in each, each once; the ledger closes."""
    (folder := tmp_path / "mixed").mkdir()
    record_mixed(tmp_path / "once", folder)
    events = multiplied(tmp_path / "once", tmp_path / "recording", EVENTS)
    receivers.spare_the_disk()
    config, ledger = tmp_path / "config.toml", tmp_path / "ledger.json"
    config.write_text(toml(receivers.tables(when_full="block")))
    command: list[str | Path] = [*HOOKLINE, "replay", tmp_path / "recording", "--config", config, "--ledger", ledger]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_REPLAY_S)
    assert done.returncode == 0, done.stderr
    report = json.loads(ledger.read_bytes())
    assert report["closed"] is True
    in_file = receivers.in_file()
    assert len(in_file) == events >= EVENTS
    assert len({event.split("-")[1] for event in in_file}) >= 10, "mixed means of many kinds"
    assert receivers.in_search() == sorted(in_file)
    assert sorted(receivers.in_kafka()) == sorted(in_file)


def kept_by(spool: Path, sink: str) -> list[str]:
    """Event ids of a dead collector's spool."""
    with closing(sqlite3.connect(spool)) as database:
        rows = database.execute("SELECT lines FROM batch WHERE sink = ? ORDER BY number", (sink,)).fetchall()
    lines = b"".join(zstandard.ZstdDecompressor().decompress(packed) for (packed,) in rows).splitlines()
    if sink == "kafka":
        return smith_ids(lines)
    return [json.loads(line)["event"]["id"] for line in lines]


def figure(listen: str, sink: str, name: str) -> float:
    """Of a sink, at the metrics endpoint; 0 until it is open."""
    return scrape(listen).get(labelled("hookline_part", part=f"sink_{sink}", figure=name), 0.0)


def arrived(listen: str) -> float:
    """Documents that Elasticsearch has taken, also where it had them already."""
    return figure(listen, "search", "documents") + figure(listen, "search", "already_there")


def kinds_at(outcome: Outcome, sink: str) -> list[dict[str, Any]]:
    return [kind for kind in outcome.ledger["kinds"].values() if sink in kind["sinks"]]


def executions(number: int) -> None:
    subprocess.run(["sh", "-c", f"for n in $(seq {number}); do /bin/true $n; done"], check=True)


def test_what_the_spool_has_survives(receivers: Receivers, tmp_path: Path) -> None:
    """A collector is killed while both servers stand still: what its spool had arrives after the next start.

    In Elasticsearch once, though requests were under way; in Kafka at least once, under the same ids.
    """
    listen = f"127.0.0.1:{free_port()}"
    tables = {
        **receivers.tables(durability="disk"),
        "metrics": {"listen": listen},
        "pipeline": {"shutdown_s": 20.0},
        "collector": {"probes": ["execve", "exit", "fork"]},
    }
    with Collector(tmp_path, tables) as collector:
        executions(200)
        before = {event["event_id"] for event in collector.sync()}
        until(lambda: figure(listen, "kafka", "messages") >= len(before), "all before in kafka", _ARRIVAL_S)
        until(lambda: arrived(listen) >= len(before), "all before in Elasticsearch", _ARRIVAL_S)
        receivers.kafka.server.freeze()
        receivers.search.server.freeze()
        for _ in range(8):
            executions(50)
            collector.sync()
        for sink in SPOOLED:
            until(lambda sink=sink: figure(listen, sink, "spool_batches") >= 8, f"batches for {sink}", _ARRIVAL_S)  # type: ignore[misc]
        collector.send(signal.SIGKILL)
        collector.process.wait()
    promised = {sink: kept_by(tmp_path / "spool.db", sink) for sink in SPOOLED}
    receivers.kafka.server.thaw()
    receivers.search.server.thaw()
    with Collector(tmp_path, tables) as collector:
        until(lambda: figure(listen, "kafka", "messages") >= len(promised["kafka"]), "it in kafka", _ARRIVAL_S)
        until(lambda: arrived(listen) >= len(promised["search"]), "it in Elasticsearch", _ARRIVAL_S)
        outcome = collector.stop()
    assert outcome.ledger["closed"] is True
    resumed = {sink: sum(kind["sinks"][sink]["resumed"] for kind in kinds_at(outcome, sink)) for sink in promised}
    assert resumed == {sink: len(events) for sink, events in promised.items()}
    assert min(resumed.values()) >= 300
    in_search, in_kafka = receivers.in_search(), receivers.in_kafka()
    assert before <= set(in_search)
    assert before <= set(in_kafka)
    assert set(promised["search"]) <= set(in_search)
    assert set(promised["kafka"]) <= set(in_kafka)
    assert [event for event, times in Counter(in_search).items() if times > 1] == []
