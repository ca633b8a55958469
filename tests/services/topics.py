# SPDX-License-Identifier: GPL-2.0-or-later
"""Topics of a real broker: made, and read to their end by a client that is not the sink's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

_Result = TypeVar("_Result")


def _run(function: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """In a thread of its own: where trio runs, asyncio does not."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(function())).result()


class Received(NamedTuple):
    """One message."""

    partition: int
    key: bytes | None
    value: bytes
    headers: Mapping[str, bytes]


def fresh_name() -> str:
    """A topic that nobody has."""
    return f"hookline-{uuid4().hex[:12]}"


def create(address: str, topic: str, *, partitions: int = 3, **options: str) -> str:
    """Make `topic`; gives its name. `options` with "_" for "."."""

    async def made() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            configs = {name.replace("_", "."): value for name, value in options.items()}
            await admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=configs)])
        finally:
            await admin.close()

    _run(made)
    return topic


def read_all(address: str, topic: str) -> list[Received]:
    """Every message that is in `topic` now, a partition after the other."""

    async def messages() -> list[Received]:
        found: list[Received] = []
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest", group_id=None)
        async with consumer:
            partitions = list(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning()
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=1000)
                    found += [
                        Received(each.partition, each.key, each.value, dict(each.headers))
                        for each in batch.get(partition, [])
                    ]
        return found

    return _run(messages)
