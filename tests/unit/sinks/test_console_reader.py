# SPDX-License-Identifier: GPL-2.0-or-later
"""The console sink and a reader that is slow, stuck or gone."""

from __future__ import annotations

import errno
import os
import pty
import select
import termios
import threading

import pytest
import trio

from sinks.console.sink import open_sink
from sinks.protocol import SinkClosed
from tests.unit.sinks.doubles import batch, console_config, until

MUCH = batch(*range(20_000))


class Reader(threading.Thread):
    """Reads until ``last`` has come."""

    def __init__(self, fd: int, last: bytes) -> None:
        super().__init__(daemon=True)
        self.fd = fd
        self.last = last
        self.data = b""
        self.start()

    def run(self) -> None:
        while not self.data.endswith(self.last):
            self.data += os.read(self.fd, 65_536)


def stuck(fd: int) -> bool:
    """Whether nothing can be written just now."""
    return not select.select([], [fd], [], 0)[1]


async def test_reader_that_went_away(pipe: tuple[int, int]) -> None:
    """Once the reader is gone (``| head``), the sink is closed for good, even if another reader comes."""
    async with open_sink(console_config(), fd=pipe[1]) as sink:
        await sink.deliver(batch(1))
        # Not closed but replaced: the fixture closes this number.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, pipe[0])
        os.close(null)
        with pytest.raises(SinkClosed):
            await sink.deliver(batch(1))
        another = os.open(f"/proc/self/fd/{pipe[1]}", os.O_RDONLY)
        with pytest.raises(SinkClosed):
            await sink.deliver(batch(1))
        os.close(another)
        assert sink.statistics()["batches"] == 1


async def test_terminal_that_hung_up() -> None:
    """A terminal that was closed is a reader that went away."""
    person, program = pty.openpty()
    async with open_sink(console_config(format="json"), fd=program) as sink:
        os.close(person)
        with pytest.raises(SinkClosed):
            await sink.deliver(batch(1))
    os.close(program)


async def test_slow_reader(pipe: tuple[int, int]) -> None:
    """A batch larger than a pipe holds arrives whole, while other tasks run."""
    async with open_sink(console_config(), fd=pipe[1]) as sink, trio.open_nursery() as nursery:
        nursery.start_soon(sink.deliver, MUCH)
        await until(lambda: stuck(pipe[1]))
        reader = Reader(pipe[0], MUCH.encoded("smith")[-40:])
        await until(lambda: not reader.is_alive())
    assert reader.data == MUCH.encoded("smith")


@pytest.mark.parametrize("where", ["pipe", "terminal"])
async def test_cancelled_at_a_stuck_reader(where: str, request: pytest.FixtureRequest) -> None:
    """A delivery that waits for a reader can be cancelled; a line that was cut is ended before the next."""
    reading, writing = request.getfixturevalue(where)
    if where == "terminal":
        attributes = termios.tcgetattr(writing)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(writing, termios.TCSANOW, attributes)
    async with open_sink(console_config(format="json"), fd=writing) as sink:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sink.deliver, MUCH)
                await until(lambda: stuck(writing))
                scope.cancel()
        assert scope.cancelled_caught
        assert sink.statistics()["batches"] == 0
        reader = Reader(reading, batch(-7).encoded("smith"))
        await sink.deliver(batch(-7))
        await until(lambda: not reader.is_alive())
    before = reader.data.removesuffix(reader.last)
    assert before.endswith(b"\n")
    assert MUCH.encoded("smith").startswith(before)


async def test_descriptor_stays_as_it_is(pipe: tuple[int, int]) -> None:
    """The caller's descriptor is neither closed nor made non-blocking: the shell shares it."""
    async with open_sink(console_config(), fd=pipe[1]) as sink:
        await sink.deliver(batch(1))
        assert os.get_blocking(pipe[1])
    assert os.get_blocking(pipe[1])


async def test_pipe_that_cannot_be_opened_again(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor of its own, in a jail without /proc, the sink can still be cancelled."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    with monkeypatch.context() as patch:
        patch.setattr("sinks.console.output.os.open", refuse)
        opening = open_sink(console_config(), fd=pipe[1])
        sink = await opening.__aenter__()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.deliver, MUCH)
            await until(lambda: stuck(pipe[1]))
            scope.cancel()
    assert scope.cancelled_caught
    await opening.__aexit__(None, None, None)
