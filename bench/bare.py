# SPDX-License-Identifier: GPL-2.0-or-later
"""The same documents into a sink by the pipeline's last stages, and by a bare loop over the sink's client."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio
from aiokafka import AIOKafkaProducer

from bench.workload import Workload
from pipeline.batch import Batch, Gatherer, Needs
from pipeline.config import Config
from pipeline.decode import Sequences, decode_span
from pipeline.deliver import Delivery
from pipeline.encode import Encoder
from pipeline.enrich.stage import enriching
from pipeline.latency import Latency
from pipeline.ledger import Counts, Ledger
from pipeline.outlets import open_sink
from pipeline.passing import pass_on
from pipeline.stages import Pipeline, new_ledger
from probes.decoder import Decoder
from probes.event import HostEvent
from probes.registry import all_events
from sinks.elasticsearch import ElasticsearchConfig, connect
from sinks.file import FileConfig
from sinks.kafka import KafkaConfig
from sinks.protocol import Schema, SinkConfig

BATCH_EVENTS = 1000
_LIST_EVENTS = 320
"""Of executions in a span of a full ring (`collector.span_bytes`)."""

Message = tuple[bytes, bytes, list[tuple[str, bytes]]]
"""Key, value, headers."""


class Documents:
    """A workload's events, decoded and enriched once, to be encoded under the ids of any number of runs."""

    def __init__(self, workload: Workload) -> None:
        self._host = workload.header.host
        self._offset = workload.header.boot_offset_ns
        self._events: list[HostEvent] = []
        trio.run(self._make, workload)

    async def _make(self, workload: Workload) -> None:
        ledger = new_ledger()
        pipeline = Pipeline(
            Config(), ledger, identity="", host=self._host, boot_offset=lambda: self._offset, live=False
        )
        decoder, sequences = Decoder(all_events()), Sequences(ledger)

        async def keep(events: list[HostEvent]) -> None:
            await trio.lowlevel.checkpoint()
            self._events += events

        async with enriching(keep, pipeline.enrichments(), Latency(), pipeline.hashes) as enrich:
            for span in workload.spans:
                await enrich(decode_span(span, decoder, sequences, ledger))

    def encoder(self) -> Encoder:
        """One of a run whose event ids nobody has seen."""
        encoder = Encoder(run_id=uuid.uuid4().hex[:16])
        encoder.set_host(self._host)
        return encoder

    def lists(self) -> list[list[HostEvent]]:
        """All events, in lists as a full ring makes them."""
        return [self._events[at : at + _LIST_EVENTS] for at in range(0, len(self._events), _LIST_EVENTS)]

    def batches(self, schema: Schema, number: int) -> list[Batch]:
        """`number` full batches, encoded, whose event ids nobody has seen."""
        encoder = self.encoder()
        made = []
        for at in range(0, number * BATCH_EVENTS, BATCH_EVENTS):
            batch = Batch(Needs(frozenset({schema}), events=False), self._offset)
            batch.add(self._events[at : at + BATCH_EVENTS], encoder)
            made.append(batch)
        return made


class Watched(Ledger):
    """Sets `done` once a sink has acknowledged `expected` events."""

    def __init__(self, kinds: Ledger) -> None:
        super().__init__((number, account.name) for number, account in kinds.kinds.items())
        self.expected = 0
        self.done = trio.Event()

    def acknowledged(self, sink: str, counts: Counts, dead: Counts | None) -> None:
        """As the ledger, and one subtraction."""
        super().acknowledged(sink, counts, dead)
        assert not dead
        self.expected -= sum(counts.values())
        if self.expected == 0:
            self.done.set()


async def by_pipeline(
    config: SinkConfig, warm: Sequence[Batch], batches: Sequence[Batch], *, sync: Path | None = None
) -> float:
    """Seconds from the first batch that is offered to the deliver stage to the last acknowledgement.

    With `sync` until that file is on the disk. `warm` go before them, unmeasured: connections are made, and as many
    requests at a time as there will be.
    """
    ledger = Watched(new_ledger())
    delivery = Delivery(open_sink, ledger)
    send, receive = trio.open_memory_channel[Batch](1)

    async def through(some: Sequence[Batch]) -> float:
        ledger.expected, ledger.done = sum(map(len, some)), trio.Event()
        started = time.perf_counter()
        for batch in some:
            await pass_on(send, batch)
        await ledger.done.wait()
        if sync:
            await trio.to_thread.run_sync(_sync, sync)
        return time.perf_counter() - started

    seconds = 0.0
    async with trio.open_nursery() as nursery:
        await nursery.start(delivery.run, receive, {"sink": config})
        async with send:
            await through(warm)
            seconds = await through(batches)
    return seconds


async def file_by_pipeline(config: FileConfig, lists: Sequence[list[HostEvent]], encoder: Encoder) -> float:
    """Seconds from the first list that is offered to the batch stage until all that the sink wrote is on the disk."""
    ledger = Watched(new_ledger())
    delivery = Delivery(open_sink, ledger)
    send, receive = trio.open_memory_channel[Batch](1)
    ledger.expected = sum(map(len, lists))
    seconds = 0.0
    async with trio.open_nursery() as nursery:
        await nursery.start(delivery.run, receive, {"sink": config})
        started = time.perf_counter()
        async with Gatherer(
            send=send,
            encode=encoder,
            needs=delivery.needs,
            boot_offset=lambda: 0,
            events=BATCH_EVENTS,
            size_bytes=BATCH_EVENTS * 2048,
            age_s=0.1,
            latency=Latency(),
        ).running() as gather:
            for events in lists:
                await gather(events)
                await trio.lowlevel.checkpoint()  # as the reader's channel is one
        await ledger.done.wait()
        await trio.to_thread.run_sync(_sync, Path(config.path))
        seconds = time.perf_counter() - started
    return seconds  # noqa: RET504 - to mypy a nursery may swallow the return


def file_by_hand(config: FileConfig, lists: Sequence[list[HostEvent]], encoder: Encoder) -> float:
    """Seconds to encode and append all: a write(2) a list, an fsync(2) each `fsync_interval_s` and one at the end."""
    return _append(config, (encoder(events, config.schema, 0) for events in lists))


def ready_lines_by_hand(config: FileConfig, batches: Sequence[Batch]) -> float:
    """As `file_by_hand`, of lines that are encoded already: a write(2) a batch."""
    return _append(config, (batch.encoded(config.schema) for batch in batches))


def _append(config: FileConfig, texts: Iterable[bytes]) -> float:
    fd = os.open(config.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    started = synced = time.perf_counter()
    for lines in texts:
        view = memoryview(lines)
        while view:
            view = view[os.write(fd, view) :]
        if time.perf_counter() - synced > config.fsync_interval_s:
            os.fsync(fd)
            synced = time.perf_counter()
    os.fsync(fd)
    seconds = time.perf_counter() - started
    os.close(fd)
    return seconds


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _by_crc(key: bytes, partitions: Sequence[int], _available: Sequence[int]) -> int:
    """As the sink does; with aiokafka's own, murmur2 in Python, the loop would be slower."""
    return partitions[zlib.crc32(key) % len(partitions)]


async def kafka_by_hand(config: KafkaConfig, warm: Sequence[Message], messages: Sequence[Message]) -> float:
    """Seconds from the first `send` to the last acknowledgement, of messages that are made already."""
    producer = AIOKafkaProducer(
        bootstrap_servers=list(config.servers),
        acks="all",
        enable_idempotence=True,
        compression_type=config.compression,
        partitioner=_by_crc,
        max_batch_size=256 * 1024,
        max_request_size=config.max_request_bytes,
    )
    await producer.start()

    async def through(some: Sequence[Message]) -> float:
        started = time.perf_counter()
        sent = [await producer.send(config.topic, value, key=key, headers=headers) for key, value, headers in some]
        await asyncio.wait(sent)
        assert not any(each.exception() for each in sent)
        return time.perf_counter() - started

    try:
        await through(warm)
        return await through(messages)
    finally:
        await producer.stop()


async def elasticsearch_by_hand(config: ElasticsearchConfig, warm: Sequence[bytes], bodies: Sequence[bytes]) -> float:
    """Seconds from the first request to the last answer, `max_requests` at a time, of bodies that are made already."""
    async with connect(config) as client:

        async def take(waiting: list[bytes]) -> None:
            while waiting:
                answer = await client.bulk(waiting.pop(), "errors")
                assert answer == {"errors": False}

        async def through(some: Sequence[bytes]) -> float:
            waiting = list(some)
            started = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(config.max_requests):
                    nursery.start_soon(take, waiting)
            return time.perf_counter() - started

        await through(warm)
        return await through(bodies)
