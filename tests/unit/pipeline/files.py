# SPDX-License-Identifier: GPL-2.0-or-later
"""Executables for tests of the hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import trio

from pipeline.enrich.hashes import Hashes
from pipeline.enrich.stage import enriching
from pipeline.latency import Latency
from pipeline.settings import Hashes as Settings
from probes.event import HostEvent, ProcessEvent
from probes.identity import FileId
from probes.process.exit import Exit
from tests.unit.pipeline.samples import made

NOBODY = (1 << 22) + 1
"""A pid above what Linux gives to any process."""


def new_hashes(**settings: Any) -> Hashes:
    """Hashes for which everything waits as long as it takes, but for what `settings` say."""
    patient = Settings(order_ms=60_000, wait_s=60.0, max_bytes=1 << 30, bytes_per_s=1 << 40, cache_entries=100)
    return Hashes(msgspec.structs.replace(patient, **settings))


def executable(path: Path, content: bytes = b"#!/bin/true\n") -> Path:
    """A file at `path`."""
    path.write_bytes(content)
    return path


def identity(path: Path) -> bytes:
    """What the kernel's record says of the file that is at `path` now."""
    return FileId.of(os.stat(path)).pack()


def run_of(path: Path, *, tgid: int = NOBODY, named: Path | None = None) -> Exit:
    """An event of a process that runs `path`, which the process tree knows as `named`; it is gone by now."""
    event = made(Exit, tgid=tgid, exe_file=identity(path))
    event.exe = os.fsencode(named or path)
    return event


def md5(content: bytes) -> str:
    """MD5 in hex digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Stage:
    """The enrich stage with `hashes` alone, for as long as the context lasts."""

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self.latency = Latency()
        self._into, self._source = trio.open_memory_channel[list[HostEvent]](1000)
        self._sink, self._out = trio.open_memory_channel[list[HostEvent]](1000)
        self._nursery = trio.open_nursery()

    async def __aenter__(self) -> Stage:
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._run)
        return self

    async def _run(self) -> None:
        async with (
            self._source,
            self._sink,
            enriching(self._sink.send, [self.hashes], self.latency, self.hashes) as enrich,
        ):
            async for events in self._source:
                await enrich(events)

    async def __aexit__(self, *error: Any) -> None:
        self._into.close()
        await self._nursery.__aexit__(*error)

    async def put(self, *events: ProcessEvent) -> None:
        """Hand over one list."""
        await self._into.send(list(events))

    async def next(self) -> list[HostEvent]:
        """The next list that comes out."""
        return await self._out.receive()

    async def pass_through(self, *events: ProcessEvent) -> list[HostEvent]:
        """Hand over one list; its events in the order in which they come out."""
        await self.put(*events)
        passed: list[HostEvent] = []
        while len(passed) < len(events):
            passed += await self.next()
        return passed


async def told(hashes: Hashes, *events: ProcessEvent) -> list[tuple[str, str]]:
    """MD5 and status of each event's executable, from a stage that ends then."""
    async with Stage(hashes) as stage:
        await stage.pass_through(*events)
    return found(*events)


def found(*events: ProcessEvent) -> list[tuple[str, str]]:
    """MD5 and status of each event's executable."""
    return [(event.exe_md5, event.exe_hash_status) for event in events]
