# SPDX-License-Identifier: GPL-2.0-or-later
"""From one stage to the next, without turns of the loop that nobody needs: each costs as much as some events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from probes.event import HostEvent

_T = TypeVar("_T")

Take = Callable[[list[HostEvent]], Awaitable[None]]
"""What a stage hands its lists to. Not always a checkpoint, so the caller must have another one."""


async def pass_on(send: trio.MemorySendChannel[_T], value: _T) -> None:
    """As ``send.send``, without a turn of the loop where there is room.

    Not always a checkpoint, so the caller must have another one.
    """
    try:
        send.send_nowait(value)
    except trio.WouldBlock:
        await send.send(value)


async def take_turn(lock: trio.Lock) -> None:
    """As ``lock.acquire``, without a turn of the loop where nobody holds it.

    Not always a checkpoint, as above.
    """
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()
