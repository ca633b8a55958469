# SPDX-License-Identifier: GPL-2.0-or-later
"""The BPF ring buffer, read through mmap.

Source: kernel/bpf/ringbuf.c. Page 0 holds the consumer's position, page 1 the
producer's, then follow the data pages. Each record has an 8-byte header: its
length with two flag bits, and a page offset of no interest here.
"""

from __future__ import annotations

import mmap
import select
from dataclasses import dataclass

import trio

_BUSY = 1 << 31
"""BPF_RINGBUF_BUSY_BIT: reserved, not yet written."""

_DISCARDED = 1 << 30
"""BPF_RINGBUF_DISCARD_BIT."""

_LENGTH = (1 << 30) - 1


@dataclass(frozen=True, slots=True)
class Span:
    """Records copied out of the ring, in its order."""

    data: bytes
    records: list[tuple[int, int]]
    """Offset in `data` and size in bytes of each."""


class Ring:
    """The consumer's side of one ring of `size` bytes (a power of two)."""

    def __init__(self, fd: int, size: int) -> None:
        page = mmap.PAGESIZE
        self._size = size
        self._consumer_map = mmap.mmap(fd, page)
        self._producer_map = mmap.mmap(fd, page + size, prot=mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map)[:8].cast("Q")
        self._producer = memoryview(self._producer_map)[:8].cast("Q")
        self._data = memoryview(self._producer_map)[page:]
        self._words = self._data.cast("I")
        # Level-triggered, the ring is readable as long as anything is in it; only an edge is a wakeup.
        self._edges = select.epoll()
        self._edges.register(fd, select.EPOLLIN | select.EPOLLET)

    def pending(self) -> int:
        """Bytes that wait to be read, headers included."""
        return self._producer[0] - self._consumer[0]

    def read(self, limit: int) -> Span | None:
        """Copy the finished records that begin within `limit` bytes, and free their room; None where there are none."""
        start = position = self._consumer[0]
        end = min(self._producer[0], start + limit)
        mask = self._size - 1
        words = self._words
        records: list[tuple[int, int]] = []
        append = records.append
        # The flags are looked at in the ring itself and before the copy: a copy of the whole span
        # could hold a record's end from before it was written and its header from after.
        while position < end:
            header = words[(position & mask) >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARDED:
                append((position - start + 8, length))
            position += (length + 15) & ~7
        if position == start:
            return None
        first, last = start & mask, (start & mask) + position - start
        data = self._data
        copied = bytes(data[first:last]) if last <= self._size else bytes(data[first:]) + data[: last - self._size]
        self._consumer[0] = position
        return Span(copied, records)

    async def wait(self, seconds: float) -> None:
        """Until the kernel wakes the reader, at most `seconds`."""
        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(self._edges.fileno())
        self._edges.poll(0)

    def close(self) -> None:
        """Unmap; the descriptor stays its owner's."""
        self._edges.close()
        for view in (self._words, self._data, self._producer, self._consumer):
            view.release()
        self._producer_map.close()
        self._consumer_map.close()
