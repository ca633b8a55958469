# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting probes into the kernel without keeping a compiler in memory."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from probes.errors import LoadError
from probes.filters import MapSettings
from probes.kernel.loaded import Counters, Loaded
from probes.kernel.messages import Request, receive
from probes.probe import Attach
from probes.registry import all_probes

__all__ = ["FIRST", "Counters", "Loaded", "Loading", "request"]

_PROCESSES = ("execve", "fork", "exit")
"""Probes with which collecting begins: what the others tell of a process rests on these."""

FIRST = (*_PROCESSES, "connect", "create_file")
"""Probes that are loaded before all others."""

_PATIENCE_S = 3.0
"""How long a child may take to clean up after itself."""

_PACKAGES = Path(__file__).parents[2]


def request(
    probes: Iterable[str],
    *,
    ring_bytes: int,
    settings: MapSettings,
    attach: Attach = "best",
    cache: str = "",
    histogram: bool = False,
    retry: bool = False,
    compile_only: bool = False,
) -> Request:
    """What to ask of the child for these probes; the rest as `Request` has it."""
    wanted = dict.fromkeys(probes)
    return Request(
        probes=(*(name for name in FIRST if name in wanted), *(name for name in wanted if name not in FIRST)),
        ring_bytes=ring_bytes,
        settings=settings,
        attach=attach,
        cache=cache,
        kinds=tuple(all_probes()),
        histogram=histogram,
        first=tuple(name for name in _PROCESSES if name in wanted) or FIRST,
        retry=retry,
        compile_only=compile_only,
    )


class Loading:
    """A loader child at work. Start it early, do something else, wait for the `first` probes, then for the `rest`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child may write
        self._reading = threading.Lock()
        self.is_done = False
        with theirs:
            self._child = subprocess.Popen(
                # -P: what lies in the working directory must not run as root.
                [sys.executable, "-P", "-m", "probes.kernel.child", str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": str(_PACKAGES)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )
        # Of a child that is gone already, `first` tells.
        with contextlib.suppress(OSError):
            self._channel.sendall(msgspec.json.encode(request) + b"\n")

    def first(self) -> Loaded:
        """The probes without which collecting does not begin, or all where none of these runs; blocks.

        Raises:
            LoadError: the child failed.
        """
        loaded = Loaded(self._request.ring_bytes, self.close)
        try:
            with self._reading:
                while not self.is_done and not (self._take(loaded) == "first" and loaded.can_run):
                    pass
        except BaseException:
            loaded.close()
            raise
        return loaded

    def rest(self, loaded: Loaded) -> None:
        """Add all other probes to `loaded` as they come; blocks until the last, or until `loaded` is detached."""
        try:
            with self._reading:
                while not self.is_done:
                    self._take(loaded)
        except LoadError as error:
            # What runs goes on. What did not come is told as what it is.
            self.is_done = True
            loaded.fail(self._request.probes, error)
        self.close()
        loaded.complete()

    def wait(self) -> Loaded:
        """All probes. Raises LoadError: the child failed."""
        loaded = self.first()
        self.rest(loaded)
        return loaded

    def _take(self, loaded: Loaded) -> str:
        """Add what comes next; gives what is done with it."""
        try:
            part, fds = receive(self._channel)
        except (LoadError, OSError):
            raise self._ended() from None
        if part.error:
            raise LoadError(part.error, part.log)
        loaded.add(part, fds)
        self.is_done = part.done == "all"
        return part.done

    def _ended(self) -> LoadError:
        code = self._child.wait()
        self._stderr.seek(0)
        log = self._stderr.read().decode("utf-8", "replace")
        return LoadError(f"the loader ended with {code} instead of an answer", log)

    def close(self) -> None:
        """End the child if it still runs, and wait for it: it holds links of its own until then."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._child.terminate()
        try:
            self._child.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        with self._reading:
            self._channel.close()
            self._stderr.close()
