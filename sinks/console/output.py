# SPDX-License-Identifier: GPL-2.0-or-later
"""A descriptor that may be slow, stuck or gone, written to so that a cancellation is heeded."""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 256 * 1024
_LISTEN_MS = 100


class Output:
    """Blocking, for one thread at a time. Writes to a descriptor of its own; the given one stays as it is."""

    def __init__(self, fd: int) -> None:
        """Raises OSError: ``fd`` is not open."""
        self._fd, self._chunk = _own(fd)
        self._rest = b""
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def write(self, data: bytes, check_cancelled: Callable[[], None]) -> None:
        """Write lines. Calls ``check_cancelled``, which may raise, now and then while nothing can be written.

        Stopped by an exception, lines that are out stay out; the end of a line that was cut is remembered and
        goes before anything else the next time.

        Raises:
            OSError: as ``os.write`` does.
        """
        while self._rest:
            self._rest = self._rest[self._write_some(self._rest, check_cancelled) :]
        view = memoryview(data)
        done = 0
        try:
            while done < len(data):
                done += self._write_some(view[done:], check_cancelled)
        except BaseException:
            if done and data[done - 1 : done] != b"\n":
                self._rest = data[done : data.index(b"\n", done) + 1]
            raise

    def close(self) -> None:
        """Close the sink's own descriptor."""
        os.close(self._fd)

    def _write_some(self, data: bytes | memoryview, check_cancelled: Callable[[], None]) -> int:
        while not self._poll.poll(_LISTEN_MS):
            check_cancelled()
        try:
            return os.write(self._fd, data[: self._chunk])
        except BlockingIOError:
            check_cancelled()
            return 0


def _own(fd: int) -> tuple[int, int]:
    """A descriptor for the same file, and how much to write to it at once so that it does not block."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return os.dup(fd), _CHUNK_BYTES
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        # O_NONBLOCK on the given descriptor would hit the shell and whoever else shares it.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{fd}", flags), _CHUNK_BYTES
        except OSError:
            pass
    # A pipe that polls as writable takes this much without blocking.
    return os.dup(fd), select.PIPE_BUF
