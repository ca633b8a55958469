# SPDX-License-Identifier: GPL-2.0-or-later
"""A ring buffer in a memory file, laid out as the kernel's, and its producer.

epoll refuses regular files, so that the ring's descriptor cannot be watched as a real one is. `Epoll`
watches an eventfd in its place: an edge there is what the kernel's wakeup is.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from types import SimpleNamespace, TracebackType

import pytest

from probes.kernel import ring as module
from probes.kernel.ring import Ring

PAGE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Producer:
    """The kernel's side of a ring of `size` bytes whose positions begin at `start`."""

    def __init__(self, size: int, start: int = 0) -> None:
        self.size = size
        self.fd = os.memfd_create("ring")
        self.wakeups = os.eventfd(0, os.EFD_NONBLOCK)
        os.ftruncate(self.fd, 2 * PAGE + size)
        self._map = mmap.mmap(self.fd, 2 * PAGE + size)
        self._positions = start
        struct.pack_into("<Q", self._map, 0, start)
        self.publish()

    @property
    def consumed(self) -> int:
        """The position up to which the reader has freed the ring."""
        position: int = struct.unpack_from("<Q", self._map, 0)[0]
        return position

    @property
    def room(self) -> int:
        return self.size - (self._positions - self.consumed)

    def publish(self) -> None:
        """Let the reader see everything up to here."""
        struct.pack_into("<Q", self._map, PAGE, self._positions)

    def emit(self, payload: bytes, flags: int = 0) -> int:
        """Reserve and write a record; gives the place of its header, for `commit`."""
        place = self._positions
        padded = payload + bytes(-len(payload) % 8)
        assert 8 + len(padded) <= self.room
        self._write(place, struct.pack("<II", len(payload) | flags, 0) + padded)
        self._positions += 8 + len(padded)
        self.publish()
        return place

    def commit(self, place: int, payload: bytes, flags: int = 0) -> None:
        """Write what was reserved at `place`, and take its busy bit away."""
        self._write(place + 8, payload)
        self._write(place, struct.pack("<I", len(payload) | flags))

    def _write(self, position: int, data: bytes) -> None:
        for at, byte in enumerate(data, position):
            self._map[2 * PAGE + at % self.size] = byte

    def wake(self) -> None:
        """What the kernel does where a record asks for it."""
        os.eventfd_write(self.wakeups, 1)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()
        os.close(self.fd)
        os.close(self.wakeups)


class Epoll:
    """`select.epoll` that watches `instead` where it is told to watch `ring`."""

    def __init__(self, ring: int, instead: int) -> None:
        self._swap = {ring: instead}
        self._epoll = select.epoll()

    def register(self, fd: int, mask: int) -> None:
        self._epoll.register(self._swap.get(fd, fd), mask)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        return self._epoll.poll(seconds)

    def close(self) -> None:
        self._epoll.close()


@contextmanager
def reader_of(producer: Producer) -> Iterator[Ring]:
    """The ring of `producer`."""
    with pytest.MonkeyPatch.context() as patch:
        epoll = partial(Epoll, producer.fd, producer.wakeups)
        replaced = SimpleNamespace(epoll=epoll, EPOLLIN=select.EPOLLIN, EPOLLET=select.EPOLLET)
        patch.setattr(module, "select", replaced)
        ring = Ring(producer.fd, producer.size)
    with closing(ring):
        yield ring


@contextmanager
def new_ring(size: int = PAGE, start: int = 0) -> Iterator[tuple[Producer, Ring]]:
    """Both sides of one ring."""
    with Producer(size, start) as producer, reader_of(producer) as ring:
        yield producer, ring


def drain(ring: Ring, limit: int = 1 << 30) -> list[bytes]:
    """Every finished record, in order."""
    records: list[bytes] = []
    while (span := ring.read(limit)) is not None:
        records += (span.data[at : at + size] for at, size in span.records)
    return records
