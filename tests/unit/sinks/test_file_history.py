# SPDX-License-Identifier: GPL-2.0-or-later
"""Any history at all: the files together hold exactly the lines that were acknowledged, in order."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.file.sink import open_sink
from sinks.protocol import SinkUnavailable
from tests.unit.sinks.doubles import batch, everything, file_config

if TYPE_CHECKING:
    from sinks.protocol import Sink

Step = tuple[str, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 200)),
        st.tuples(st.just("wait"), st.integers(-5, 30)),
        st.tuples(st.sampled_from(["reopen", "restart", "crash"]), st.integers(0, 40)),
    ),
    max_size=25,
)


class History:
    def __init__(self, directory: str, rotate_bytes: int, compress: bool, fsync: str) -> None:
        self.path = Path(directory) / "events.ndjson"
        self.config = file_config(
            self.path, rotate_bytes=rotate_bytes, rotate_age_s=20, compress=compress, fsync=fsync, keep=0
        )
        self.now = 1_700_000_000.0
        self.numbers = count()
        self.acknowledged: list[int] = []

    async def run(self, history: list[Step]) -> None:
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(open_sink(self.config, now=lambda: self.now))
            for step, amount in history:
                if step in {"restart", "crash"}:
                    await stack.aclose()
                    if step == "crash":
                        self.tear(amount)
                    sink = await stack.enter_async_context(open_sink(self.config, now=lambda: self.now))
                else:
                    await self.take(sink, step, amount)
            # Ends the line of a crash, should that have been the last step.
            await self.take(sink, "deliver", 1)

    async def take(self, sink: Sink, step: str, amount: int) -> None:
        if step == "deliver":
            wanted = [next(self.numbers) for _ in range(amount)]
            await sink.deliver(batch(*wanted))
            self.acknowledged += wanted
        elif step == "fail":
            try:
                with mock.patch(
                    "sinks.file.log.write_all", lambda fd, *pieces: self.fail(fd, b"".join(pieces), amount)
                ):
                    await sink.deliver(batch(-1, -2, -3))
            except SinkUnavailable:
                return
            raise AssertionError("the batch was taken although writing failed")
        elif step == "wait":
            self.now += amount
        else:
            await sink.reopen()

    def fail(self, fd: int, data: bytes, part: int) -> None:
        # One byte is written or is not: only longer data can be cut.
        os.write(fd, data[:part] if len(data) > 1 else b"")
        raise OSError(errno.ENOSPC, "No space left on device")

    def tear(self, spaces: int) -> None:
        """Leave what a crash in mid-write may leave: a last line without its end (here it is whole JSON)."""
        number = next(self.numbers)
        with self.path.open("ab") as file:
            file.write(b'{"n":%d}' % number + b" " * spaces)
        self.acknowledged.append(number)


@settings(max_examples=150)
@given(steps, st.sampled_from([0, 1, 60, 200]), st.booleans(), st.sampled_from(["never", "interval", "always"]))
def test_any_history(history: list[Step], rotate_bytes: int, compress: bool, fsync: str) -> None:
    """No sequence of batches, failures, rotations, reopenings, restarts and crashes loses or joins a line."""
    with tempfile.TemporaryDirectory() as directory:
        told = History(directory, rotate_bytes, compress, fsync)
        trio.run(told.run, history)
        assert everything(told.path) == told.acknowledged
