# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects into the kernel: maps, programs, links."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from probes.errors import LoadError
from probes.kernel import bpf, filters
from probes.kernel.attach import attach
from probes.kernel.messages import HookReport, ProbeReport, Request
from probes.kernel.object import SHARED, TAIL_MAPS, Map, Object, Program
from probes.kernel.program import load


@dataclass(slots=True)
class Loaded:
    """What one probe has in the kernel: descriptors by name."""

    maps: dict[str, int] = field(default_factory=dict)
    """Of its own and, if new, shared ones."""

    programs: dict[str, int] = field(default_factory=dict)
    links: list[int] = field(default_factory=list)


def _verified(compiled: Object, maps: Iterable[Mapping[str, int]], undo: ExitStack) -> list[int]:
    """Descriptors of the programs, each with its maps. The verifier takes its time: as many at once as there are CPUs.

    Raises LoadError.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        loading = [
            pool.submit(load, program.mechanism, program.name, program.linked(its_maps), program.function)
            for program, its_maps in zip(compiled.programs, maps, strict=True)
        ]
    for each in loading:
        if not each.exception():
            undo.callback(os.close, each.result())
    return [each.result() for each in loading]


class Loader:
    """Loads objects one after the other; what they share is made once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._shared: dict[str, tuple[Map, int]] = {}
        self._told: set[str] = set()

    def load(self, compiled: Object) -> tuple[Loaded, ProbeReport]:
        """Verify and attach all of a probe. Raises LoadError: then nothing of it is left."""
        loaded = Loaded()
        with ExitStack() as undo:
            own = {name: self._map(compiled, name, undo) for name in compiled.maps}
            tails: dict[tuple[str, str], int] = {}
            used: list[dict[str, int]] = []
            for program in compiled.programs:
                maps = dict(own)
                name = TAIL_MAPS[program.mechanism]
                if program.target and name in own:
                    # A tracing program is for one function, and so is the map that it calls others through.
                    at = (name, program.target)
                    if at not in tails:
                        tails[at] = self._create(compiled.maps[name], name, undo)
                        loaded.maps[f"{compiled.probe}/{name} {program.target}"] = tails[at]
                    maps[name] = tails[at]
                used.append(maps)
            for program, maps, fd in zip(compiled.programs, used, _verified(compiled, used, undo), strict=True):
                loaded.programs[f"{compiled.probe}/{program.label}"] = fd
                self._enter(program, maps, fd)
            loaded.links += self._attach(compiled, loaded, undo)
            undo.pop_all()
        loaded.maps |= {f"{compiled.probe}/{name}": fd for name, fd in own.items() if name not in SHARED}
        loaded.maps |= self._news()
        return loaded, self._report(compiled)

    def _news(self) -> dict[str, int]:
        news = {name: fd for name, (_map, fd) in self._shared.items() if name not in self._told}
        self._told |= news.keys()
        return news

    def _map(self, compiled: Object, name: str, undo: ExitStack) -> int:
        wanted = compiled.maps[name]
        if name not in SHARED:
            return self._create(wanted, name, undo)
        known = self._shared.get(name)
        if known is None:
            self._shared[name] = known = wanted, self._create_shared(wanted, name)
        if known[0] != wanted:
            raise LoadError(f"{compiled.probe} has another {name} than the probes before it")
        return known[1]

    def _create(self, wanted: Map, name: str, undo: ExitStack | None) -> int:
        try:
            fd = bpf.create_map(wanted.kind, wanted.key_size, wanted.value_size, wanted.entries, wanted.flags, name)
        except OSError as error:
            raise LoadError(f"the map {name} cannot be made: {error.strerror}") from error
        if undo:
            undo.callback(os.close, fd)
        return fd

    def _create_shared(self, wanted: Map, name: str) -> int:
        if name == "hl_events":
            return self._create(Map(bpf.RINGBUF, 0, 0, self._request.ring_bytes, wanted.flags), name, None)
        fd = self._create(wanted, name, None)
        made = {known: other for known, (_map, other) in self._shared.items()} | {name: fd}
        if name in filters.MAPS and made.keys() >= set(filters.MAPS):
            filters.apply(self._request.settings, made)
        return fd

    def _enter(self, program: Program, maps: dict[str, int], fd: int) -> None:
        tails = maps.get(TAIL_MAPS[program.mechanism])
        if program.slot is not None and tails is not None:
            bpf.update(tails, struct.pack("<I", program.slot), struct.pack("<I", fd))

    def _attach(self, compiled: Object, loaded: Loaded, undo: ExitStack) -> Iterator[int]:
        for link in compiled.links:
            if not link.target:
                continue
            try:
                fd = attach(loaded.programs[f"{compiled.probe}/{link.program}"], link.mechanism, link.target)
            except OSError as error:
                raise LoadError(f"cannot attach to {link.at}: {error.strerror}") from error
            undo.callback(os.close, fd)
            yield fd

    def _report(self, compiled: Object) -> ProbeReport:
        attached = tuple(HookReport(link.at, link.sees) for link in compiled.links)
        return ProbeReport(
            compiled.probe,
            compiled.form,
            (*compiled.missing, *attached),
            compiled.passed_over,
            timed=compiled.timed,
        )
