# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches of a partition on their way to a broker."""

from __future__ import annotations

import asyncio
from typing import Any

from sinks.kafka.message import Message
from sinks.kafka.packing import send


class Frozen:
    """A producer whose broker took the first batch and says nothing of it; the next waits behind it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._batches = 0

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0}

    def create_batch(self) -> Any:
        return OneMessage()

    async def send_batch(self, _builder: object, _topic: str, *, partition: int) -> asyncio.Future[object]:
        assert partition == 0
        self._batches += 1
        if self._batches > 1:
            self.asked.set()
            await asyncio.Event().wait()
        return asyncio.get_running_loop().create_future()


class OneMessage:
    """A batch that has room for no more than that."""

    def __init__(self) -> None:
        self._is_full = False

    def append(self, **_message: object) -> object | None:
        if self._is_full:
            return None
        self._is_full = True
        return object()

    def close(self) -> None:
        pass


async def _cancelled_while_frozen() -> bool:
    producer = Frozen()
    messages = [Message("topic", b"key", b"value", [])] * 2
    task = asyncio.create_task(send(producer, messages, 1 << 20))
    await producer.asked.wait()
    task.cancel()
    done, waiting = await asyncio.wait([task], timeout=5)
    for each in waiting:
        each.cancel()
    return bool(done)


def test_a_cancelled_send_ends() -> None:
    """Who gives up a frozen broker does not wait for it all the same: a deadline and the collector's end hold."""
    assert asyncio.run(_cancelled_while_frozen())
