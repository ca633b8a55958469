# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes in the kernel, as the collector holds them."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType

from probes.errors import LoadError
from probes.filters import MapSettings
from probes.kernel import bpf, filters
from probes.kernel.detach import leave_to_another
from probes.kernel.histogram import EMPTY, Histogram
from probes.kernel.histogram import read as read_histogram
from probes.kernel.messages import Part, ProbeReport
from probes.kernel.uprobes import Uprobes
from probes.registry import all_probes

_COUNTERS = struct.Struct("<3Q")
"""struct hl_counters of hookline.h."""

_STREAMS = 17
"""HL_STREAMS of hookline.h: streams of numbers that are not a CPU's."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One kind's counts in the kernel in one stream of numbers since the start."""

    emitted: int
    """Events that got a number, whether the ring took them or not."""

    dropped: int
    """Of these, events that the ring had no room for."""

    filtered: int
    """Events that the configuration left out; they got no number."""


def _is_perf_event(fd: int) -> bool:
    return "[perf_event]" in os.readlink(f"/proc/self/fd/{fd}")


class Loaded:
    """Attached probes; more may come. Closing detaches them; the ring can be read until then.

    Its descriptors may be added by one thread while another looks at them or detaches.
    """

    def __init__(self, ring_bytes: int, end_loading: Callable[[], None]) -> None:
        """`end_loading` is called before the programs are stopped: nothing comes after it."""
        self.ring_bytes = ring_bytes
        self.reports: dict[str, ProbeReport] = {}
        """By the probes' names, in the registry's order: they come in that of whichever compiler is done first."""

        self.programs: dict[str, int] = {}
        """Descriptors by PROBE/PROGRAM; of fentry and fexit programs, by PROBE/PROGRAM FUNCTION."""

        self.maps: dict[str, int] = {}
        """Descriptors by name; of the maps of one probe alone, by PROBE/MAP."""

        self.uprobes = Uprobes(())
        """What is attached to files as they are found; made when all probes are there."""

        self.is_detached = False
        self._end_loading = end_loading
        self._links: list[int] = []
        self._cpus = bpf.possible_cpus()
        self._lock = threading.Lock()

    def add(self, part: Part, fds: list[int]) -> None:
        """Take over what the loader handed over."""
        maps, programs = len(part.maps), len(part.maps) + len(part.programs)
        with self._lock:
            if self.is_detached:
                for fd in fds:
                    os.close(fd)
                return
            self.maps |= zip(part.maps, fds[:maps], strict=True)
            self.programs |= zip(part.programs, fds[maps:programs], strict=True)
            self._links += fds[programs:]
            if part.report:
                self._note(part.report)

    def fail(self, names: Iterable[str], error: LoadError) -> None:
        """None of these probes will come, but for those that have."""
        with self._lock:
            for name in set(names) - set(self.reports):
                self._note(ProbeReport(name, error=str(error), log=error.log))

    def _note(self, report: ProbeReport) -> None:
        # A new dictionary, since other threads may be going through the one that there is.
        known = self.reports | {report.name: report}
        self.reports = {name: known[name] for name in all_probes() if name in known}

    def complete(self) -> None:
        """All probes are there: files can be searched for those that attach to files."""
        with self._lock:
            if not self.is_detached:
                self.uprobes = Uprobes(self._for_files())

    def _for_files(self) -> list[tuple[str, str, int]]:
        """Probe, program and descriptor of everything for which there are files to find."""
        wanted = {
            (report.name, hook.program)
            for report in self.reports.values()
            if not report.error
            for form in all_probes()[report.name].forms
            if form.name == report.form
            for hook in form.hooks
            if hook.files is not None
        }
        keyed = ((probe, program, f"{probe}/{program}") for probe, program in sorted(wanted))
        return [(probe, program, self.programs[key]) for probe, program, key in keyed if key in self.programs]

    @property
    def can_run(self) -> bool:
        """Whether there is a probe that runs."""
        return "hl_events" in self.maps

    @property
    def ring_fd(self) -> int:
        """The ring buffer's descriptor. Raises LoadError: no probe runs."""
        if not self.can_run:
            reasons = "; ".join(f"{report.name}: {report.error}" for report in self.reports.values())
            raise LoadError(f"no probe can run here ({reasons}): see `hookline doctor`")
        return self.maps["hl_events"]

    def counters(self) -> Iterator[tuple[int, int, Counters]]:
        """Slot (as in `probes.c_header`), stream and counts, where there are any.

        The streams are those of the possible CPUs, of the records for programs that can be preempted, and
        one for events that found no such record free.
        """
        slots, size = len(all_probes()), _COUNTERS.size
        lanes = bpf.lookup_array(self.maps["hl_lane_counters"], slots * _STREAMS, size)
        for slot in range(slots):
            raw = bpf.lookup(self.maps["hl_counters"], struct.pack("<I", slot), size * self._cpus)
            raw += lanes[slot * _STREAMS * size : (slot + 1) * _STREAMS * size]
            for stream, counts in enumerate(_COUNTERS.iter_unpack(raw)):
                if any(counts):
                    yield slot, stream, Counters(*counts)

    def skipped_by_kernel(self) -> dict[str, int]:
        """Times that the kernel skipped a probe's programs because they were running already, before any number.

        Zeros before Linux 5.12, which does not count them.
        """
        with self._lock:
            skipped = dict.fromkeys(self.reports, 0)
            for name, fd in self.programs.items():
                skipped[name.partition("/")[0]] += bpf.program_statistics(fd).skipped
            return skipped

    def histograms(self, before: Mapping[str, Histogram] = MappingProxyType({})) -> dict[str, Histogram]:
        """Durations of every program that a hook calls, by PROBE/PROGRAM, where the request asked for them.

        Of programs that have not run since `before` these are the same objects, and cheap.
        """
        found: dict[str, Histogram] = {}
        for report in self.reports.values():
            if f"{report.name}/hl_histogram" in self.maps:
                for number, program in enumerate(report.timed):
                    name = f"{report.name}/{program}"
                    known = before.get(name, EMPTY)
                    found[name] = read_histogram(self.maps, report.name, number, self._cpus, known)
        return found

    def set_filters(self, settings: MapSettings) -> None:
        """Change what the kernel leaves out, while everything runs."""
        with self._lock:
            if not self.is_detached:
                filters.apply(settings, self.maps)

    def detach(self) -> None:
        """Stop the programs; what they sent is in the ring then, and stays."""
        self._end_loading()
        with self._lock:
            self.is_detached = True
            if self.maps:
                filters.stop(self.maps)
            self.uprobes.close()
            # In order: closing a perf event waits for the programs of every tracepoint, also where these run under
            # SRCU (from Linux 6.19 on), for which await_programs() does not wait. Raw tracepoints come first.
            # Each such close takes as long as the last, and once the programs tell nothing, one is enough to wait for.
            links = sorted(self._links, key=_is_perf_event)
            self._links.clear()
            waited = sum(not _is_perf_event(link) for link in links) + 1
            for link in links[:waited]:
                os.close(link)
            leave_to_another(links[waited:])
        bpf.await_programs()

    def close(self) -> None:
        """Detach and let go of every descriptor."""
        self.detach()
        with self._lock:
            for fds in (self.programs, self.maps):
                while fds:
                    os.close(fds.popitem()[1])

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
