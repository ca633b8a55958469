# SPDX-License-Identifier: GPL-2.0-or-later
"""Events into a sink by the pipeline's own delivery, with a ledger, and a look at what arrived."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from pipeline.batch import Batch, Needs
from pipeline.deliver import Delivery
from pipeline.encode import Encoder
from pipeline.gap import Gap
from pipeline.ledger import Ledger
from pipeline.outlets import open_sink
from probes.event import HostEvent
from probes.process.execve import Execve
from probes.registry import all_events
from sinks.elasticsearch import ElasticsearchConfig
from tests.servers.elasticsearch import USER, Elasticsearch
from tests.unit.pipeline.samples import HOST, made

KINDS: tuple[type[HostEvent], ...] = (*all_events(), Gap)
SINK = "search"
_NOW_NS = 1_800_000_000_000_000_000
_LIMIT_S = 60.0


class Feed:
    """Batches of one run of a collector, whose event ids are its own."""

    def __init__(self, delivery: Delivery, ledger: Ledger, send: trio.MemorySendChannel[Batch]) -> None:
        self.delivery = delivery
        self.ledger = ledger
        self.run = uuid.uuid4().hex[:16]
        self.sent = 0
        self._send = send
        self._encoder = Encoder(run_id=self.run)
        self._encoder.set_host(HOST)

    async def executions(self, number: int, **values: Any) -> None:
        """Send a batch of `number` executions, whose sequence numbers count on."""
        numbers = range(self.sent, self.sent + number)
        await self.events(
            [made(Execve, **{"pid": n, "tgid": n, "sequence": n, "comm": b"ls", **values}) for n in numbers]
        )

    async def events(self, events: Sequence[HostEvent]) -> None:
        """Send a batch of these."""
        batch = Batch(Needs(frozenset({"ecs"}), events=False), _NOW_NS)
        batch.add(list(events), self._encoder)
        self.sent += len(events)
        self.ledger.decoded(batch.counts)
        for kind in batch.counts:
            account = self.ledger.kinds[kind]
            self.ledger.source(kind, emitted=account.decoded, dropped=0, filtered=0)
        await self._send.send(batch)

    def total(self, outcome: str) -> int:
        """Of the sink's account, over all kinds: ``delivered``, ``dead_letter`` and so on."""
        return sum(getattr(account.sink(SINK), outcome) for account in self.ledger.kinds.values())

    def figures(self) -> dict[str, int]:
        """The sink's own."""
        return dict(self.delivery.statistics()[f"sink_{SINK}"])

    async def until(self, outcome: str, number: int) -> None:
        """Return once that many have come to this end."""
        with trio.fail_after(_LIMIT_S):
            while self.total(outcome) < number:  # noqa: ASYNC110 - the ledger tells nobody when it changes
                await trio.sleep(0.01)


@asynccontextmanager
async def feeding(config: ElasticsearchConfig) -> AsyncIterator[Feed]:
    """Deliver to `config`; at the end all is settled, and the ledger closes."""
    ledger = Ledger([(event.data_type, event.event_name) for event in KINDS])
    send, receive = trio.open_memory_channel[Batch](0)
    delivery = Delivery(open_sink, ledger)
    feed = Feed(delivery, ledger, send)
    async with trio.open_nursery() as nursery:
        await nursery.start(delivery.run, receive, {SINK: config})
        async with send:
            yield feed
    assert ledger.is_closed(), ledger.report()


def config_for(server: Elasticsearch, folder: Path, **keys: Any) -> ElasticsearchConfig:
    """A sink for `server` whose data streams no other test has, and whose dead letters lie in `folder`."""
    given: dict[str, Any] = {
        "hosts": (server.url,),
        "namespace": uuid.uuid4().hex[:16],
        "when_full": "block",
        "dead_letter_file": str(folder / "dead.ndjson"),
    }
    if server.secured:
        given |= {
            "user": USER,
            "password_file": str(server.server.folder / "password"),
            "ca_file": str(server.tls / "ca.pem"),
            "cert_file": str(server.tls / "client.pem"),
            "key_file": str(server.tls / "client.key"),
        }
    return ElasticsearchConfig(**{**given, **keys})


def found_by(server: Elasticsearch, streams: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """The hits of a search."""
    answer = server.ask("POST", f"{streams}/_search", query)
    assert "hits" in answer, answer
    hits: list[dict[str, Any]] = answer["hits"]["hits"]
    return hits


def ids(server: Elasticsearch, config: ElasticsearchConfig) -> list[str]:
    """Of all documents in the sink's data streams."""
    streams = f"/logs-hookline.*-{config.namespace}"
    server.ask("POST", f"{streams}/_refresh")
    found: list[str] = []
    query: dict[str, Any] = {"size": 5_000, "_source": False, "sort": [{"event.id": "asc"}]}
    while hits := found_by(server, streams, query):
        found += [hit["_id"] for hit in hits]
        query["search_after"] = hits[-1]["sort"]
    return found


def expected(feed: Feed) -> list[str]:
    """The ids of all executions that were sent, in the order of `ids`."""
    return sorted(f"{feed.run}-{Execve.data_type}-0-{n}" for n in range(feed.sent))
