# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages in whole batches of a partition, and what became of each: coroutines of asyncio."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from sinks.kafka.message import Message

if TYPE_CHECKING:
    from aiokafka.producer.message_accumulator import BatchBuilder

_OVERHEAD_BYTES = 512
"""Of a message beside its value, at most: key, headers, lengths."""

_AT_ONCE = 500
"""Messages that are packed without a turn for others."""


class _Parcel(NamedTuple):
    """Messages that the broker takes or refuses together, and their places among those that were given to `send`."""

    builder: BatchBuilder
    places: list[int]


async def send(producer: AIOKafkaProducer, messages: Sequence[Message], max_bytes: int) -> list[BaseException | None]:
    """What became of each message, once all are settled: None is an acknowledgement.

    They go out as whole batches of a partition. One by one, each would cost a future and two turns of the loop.
    """
    outcomes: list[BaseException | None] = [None] * len(messages)
    topics = _Topics(producer)
    parcels: dict[tuple[str, int], list[_Parcel]] = {}
    for place, (topic, key, value, headers) in enumerate(messages):
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)  # others have a turn
        partitions = await topics.partitions(topic)
        if isinstance(partitions, BaseException):
            outcomes[place] = partitions
        elif len(value) + _OVERHEAD_BYTES > max_bytes:
            outcomes[place] = MessageSizeTooLargeError()
        else:
            waiting = parcels.setdefault((topic, partitions[partition_of(key, len(partitions))]), [])
            if not waiting or waiting[-1].builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                waiting.append(_Parcel(producer.create_batch(), []))
                waiting[-1].builder.append(timestamp=None, key=key, value=value, headers=headers)
            waiting[-1].places.append(place)
    await asyncio.gather(*(_ship(producer, *to, waiting, outcomes) for to, waiting in parcels.items()))
    return outcomes


def partition_of(key: bytes | None, partitions: int) -> int:
    """As librdkafka chooses by default (``consistent_random``): CRC-32 of the key, any for none.

    Java's murmur2 is Python in aiokafka, and took longer there than all else that a message costs.
    """
    return (zlib.crc32(key) if key else random.getrandbits(32)) % partitions


class _Topics:
    """Partitions of each topic, asked for once. After a problem no other is asked for, which would wait as long."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._known: dict[str, list[int] | BaseException] = {}
        self._problem: BaseException | None = None

    async def partitions(self, topic: str) -> list[int] | BaseException:
        if topic not in self._known:
            try:
                self._known[topic] = self._problem or sorted(await self._producer.partitions_for(topic))
            except (KafkaError, OSError) as error:
                self._known[topic] = self._problem = error
        return self._known[topic]


async def _ship(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    parcels: Sequence[_Parcel],
    outcomes: list[BaseException | None],
) -> None:
    """Send `parcels` one after the other, and note what became of them."""
    sent: list[asyncio.Future[object]] = []
    problem: BaseException | None = None
    try:
        try:
            for parcel in parcels:
                parcel.builder.close()  # so that nothing waits for further messages
                sent.append(await producer.send_batch(parcel.builder, topic, partition=partition))
        except (KafkaError, OSError) as error:
            problem = error
        if sent:
            await asyncio.wait(sent)
    finally:
        for future in sent:
            future.cancel()  # where this was cancelled, nobody will ask what became of it
    for number, parcel in enumerate(parcels):
        outcome = sent[number].exception() if number < len(sent) else problem
        for place in parcel.places:
            outcomes[place] = outcome
