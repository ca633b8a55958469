# SPDX-License-Identifier: GPL-2.0-or-later
"""Compilers in processes of their own: two probes at a time, and one that kills its compiler costs itself alone."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from probes.kernel import bpf
from probes.kernel.object import Object, boot_id

_AT_ONCE = 2
_PR_SET_PDEATHSIG = 1
"""linux/prctl.h"""

_LENGTH = struct.Struct("<I")

Task = tuple[str, Mapping[str, str]]
"""A probe's name, and the forms of it that were refused."""


@dataclass(slots=True)
class _Worker:
    pid: int
    channel: socket.socket
    task: str = ""
    """The probe that it is at."""


@dataclass(slots=True)
class Workers:
    """Compile what is `add`-ed, in that order; `next` gives what is done. `close` ends them."""

    compile: Callable[[str, Mapping[str, str]], Object]
    customer: socket.socket
    """Who waits for what is compiled, and has nothing to say."""

    _waiting: deque[Task] = field(default_factory=deque)
    _workers: list[_Worker] = field(default_factory=list)

    def add(self, name: str, refused: Mapping[str, str]) -> None:
        """Compile this probe, when its turn comes."""
        self._waiting.append((name, refused))
        self._assign()

    def next(self) -> Object | None:
        """The next one that is done; None where nothing is to be done. Blocks.

        Raises:
            ConnectionError: the customer is gone.
        """
        busy = [worker for worker in self._workers if worker.task]
        if not busy:
            return None
        ready, _, _ = select.select([self.customer, *(worker.channel for worker in busy)], [], [])
        if self.customer in ready:
            raise ConnectionAbortedError
        worker = next(worker for worker in busy if worker.channel in ready)
        compiled = _receive(worker.channel) or self._bury(worker)
        worker.task = ""
        self._assign()
        return compiled

    def close(self) -> None:
        """End all of them, whatever they are at."""
        while self._workers:
            self._end(self._workers[-1])

    def _assign(self) -> None:
        while self._waiting:
            worker = next((worker for worker in self._workers if not worker.task), None)
            if worker is None and len(self._workers) < min(_AT_ONCE, len(os.sched_getaffinity(0))):
                worker = self._start()
            if worker is None:
                return
            name, refused = self._waiting.popleft()
            worker.task = name
            _send(worker.channel, msgspec.msgpack.encode((name, refused)))

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _die_with_parent()
            try:
                self._serve(theirs)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        theirs.close()
        worker = _Worker(pid, ours)
        self._workers.append(worker)
        return worker

    def _serve(self, channel: socket.socket) -> None:
        while request := _receive_bytes(channel):
            name, refused = msgspec.msgpack.decode(request, type=tuple[str, dict[str, str]])
            _send(channel, msgspec.msgpack.encode(self.compile(name, refused)))

    def _bury(self, worker: _Worker) -> Object:
        code = self._end(worker)
        return Object(worker.task, error=f"the compiler ended with {code}", boot=boot_id())

    def _end(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        worker.channel.close()
        os.kill(worker.pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])


def _die_with_parent() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    bpf.libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _send(channel: socket.socket, content: bytes) -> None:
    channel.sendall(_LENGTH.pack(len(content)) + content)


def _receive(channel: socket.socket) -> Object | None:
    content = _receive_bytes(channel)
    return msgspec.msgpack.decode(content, type=Object) if content else None


def _receive_bytes(channel: socket.socket) -> bytes:
    """One message; nothing where the other side is gone."""
    head = _exactly(channel, _LENGTH.size)
    return _exactly(channel, *_LENGTH.unpack(head)) if head else b""


def _exactly(channel: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        try:
            more = channel.recv(size - len(content))
        except ConnectionError:
            return b""
        if not more:
            return b""
        content += more
    return content
