# SPDX-License-Identifier: GPL-2.0-or-later
"""From one stage to the next."""

from __future__ import annotations

from typing import TypeVar

import trio

_T = TypeVar("_T")


async def pass_on(send: trio.MemorySendChannel[_T], value: _T) -> None:
    """As ``send.send``, without a turn of the loop where there is room: a turn costs as much as some events.

    Not always a checkpoint, so the caller must have another one.
    """
    try:
        send.send_nowait(value)
    except trio.WouldBlock:
        await send.send(value)
