# SPDX-License-Identifier: GPL-2.0-or-later
"""The loader child: ``python -m probes.kernel.child SOCKET``.

It reads one request from the socket, loads and attaches the probes one after the other, and hands each over as soon as
it is attached: its report, and the descriptors that keep it there. What is in the cache needs no more than bpf(2). For
the rest the compiler is imported, which takes over 120 MB and stays in this process and its workers.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import msgspec

from probes.errors import LoadError, ProbeError
from probes.kernel.cache import Cache, Keys
from probes.kernel.load import Loaded, Loader
from probes.kernel.messages import Part, ProbeReport, Request, send
from probes.kernel.object import Object, boot_id
from probes.kernel.workers import Workers

if TYPE_CHECKING:
    from probes.kernel.compile import Compiler


class _Session:
    def __init__(self, channel: socket.socket, request: Request) -> None:
        self._channel = channel
        self._request = request
        self._cache = Cache(request.cache)
        self._keys = Keys(request)
        self._loader = Loader(request)
        self._waiting_first = set(request.first) & set(request.probes)
        self._refused: dict[str, dict[str, str]] = {}
        self._logs: dict[str, str] = {}

    def run(self) -> None:
        """Everything of the request."""
        cold = []
        for name in self._request.probes:
            compiled = self._cached(name)
            if compiled is None:
                cold.append(name)
            elif not self._deliver(compiled, fresh=False):
                self._cache.remove(name, self._keys.key(name))
                cold.append(name)
        if cold:
            self._compile(cold)
        send(self._channel, Part(done="all"), [])

    @cached_property
    def _compiler(self) -> Compiler:
        from probes.kernel.compile import Compiler

        return Compiler(self._request)

    def _cached(self, name: str) -> Object | None:
        """What is in the cache, if it is right in this boot too; then it is so until the next."""
        key = self._keys.key(name)
        compiled = self._cache.read(name, key)
        if compiled is None or not compiled.boot or (compiled.boot == boot_id() and not self._request.retry):
            return compiled
        if not self._compiler.is_best(compiled):
            return None
        compiled = msgspec.structs.replace(compiled, boot=boot_id())
        self._cache.write(name, key, compiled)
        return compiled

    def _compile(self, names: list[str]) -> None:
        import bcc  # noqa: F401 - once, for all workers

        with tempfile.TemporaryDirectory(prefix="hookline-") as folder:
            self._compiler.scratch = Path(folder)
            with closing(Workers(self._compiler.compile, self._channel)) as workers:
                for name in names:
                    workers.add(name, {})
                while compiled := workers.next():
                    if not self._deliver(compiled, fresh=True):
                        # The next form of it, if there is one.
                        workers.add(compiled.probe, self._refused[compiled.probe])

    def _deliver(self, compiled: Object, *, fresh: bool) -> bool:
        """Load it and tell; False where it must be compiled (again) first."""
        if compiled.error or self._request.compile_only:
            log = compiled.log or self._logs.get(compiled.probe, "")
            self._tell(ProbeReport(compiled.probe, compiled.form, error=compiled.error, log=log, compiled=fresh))
        else:
            try:
                loaded, report = self._loader.load(compiled)
            except LoadError as error:
                self._refused.setdefault(compiled.probe, {})[compiled.form] = str(error)
                self._logs[compiled.probe] = error.log
                return False
            self._tell(msgspec.structs.replace(report, compiled=fresh), loaded)
        if fresh:
            self._cache.write(compiled.probe, self._keys.key(compiled.probe), compiled)
        return True

    def _tell(self, report: ProbeReport, loaded: Loaded | None = None) -> None:
        before = bool(self._waiting_first)
        self._waiting_first.discard(report.name)
        done: Literal["", "first"] = "first" if before and not self._waiting_first else ""
        if loaded is None:
            send(self._channel, Part(report, done=done), [])
            return
        fds = [*loaded.maps.values(), *loaded.programs.values(), *loaded.links]
        part = Part(report, tuple(loaded.maps), tuple(loaded.programs), len(loaded.links), done)
        send(self._channel, part, fds)
        for fd in _to_close(loaded):
            os.close(fd)


def _to_close(loaded: Loaded) -> Iterator[int]:
    """What the collector alone must hold, so that it can let go of it."""
    yield from loaded.links
    yield from loaded.programs.values()
    yield from (fd for name, fd in loaded.maps.items() if "/" in name)


def _end(_number: int, _frame: object) -> NoReturn:
    raise SystemExit


def main() -> None:
    """Answer one request on the socket whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, _end)
    # Before Linux 5.11 maps and programs count as locked memory. Whose limit it is may lack CAP_SYS_RESOURCE.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        request = msgspec.json.decode(channel.makefile("rb").readline(), type=Request)
        settings = msgspec.structs.replace(request.settings, loader_tgid=os.getpid())
        _Session(channel, msgspec.structs.replace(request, settings=settings)).run()
    except ProbeError as error:
        send(channel, Part(error=str(error), log=getattr(error, "log", "")), [])
    except ConnectionError:
        pass  # nobody is there to be told
    except OSError as error:
        send(channel, Part(error=f"the loader failed: {error}"), [])
    channel.close()
    os._exit(0)


if __name__ == "__main__":
    main()
