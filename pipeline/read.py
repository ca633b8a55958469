# SPDX-License-Identifier: GPL-2.0-or-later
"""The read stage: out of the ring and on, at the kernel's pace and never at a sink's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from probes.kernel.ring import Ring, Span


async def read(
    ring: Ring,
    send: trio.MemorySendChannel[Span],
    *,
    span_bytes: int,
    poll_interval_s: float,
    stop: trio.Event,
    detach: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read until `stop`; then `detach`, and read what is left.

    Waits for the kernel's wakeup (one for so many bytes) or the interval, not for every event.
    """
    async with send:
        task_status.started()
        while not stop.is_set():
            if await _drain(ring, send, span_bytes):
                continue
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_on, stop, nursery.cancel_scope)
                await ring.wait(poll_interval_s)
                nursery.cancel_scope.cancel()
        await detach()
        while await _drain(ring, send, span_bytes):
            pass


async def _drain(ring: Ring, send: trio.MemorySendChannel[Span], span_bytes: int) -> bool:
    """Pass on one span; whether it was a full one, so that more is likely to wait."""
    span = ring.read(span_bytes)
    if span is None:
        return False
    await send.send(span)
    return len(span.data) >= span_bytes // 2


async def _cancel_on(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
