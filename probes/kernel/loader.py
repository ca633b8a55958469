# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting probes into the kernel without keeping a compiler in memory."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import msgspec

from probes.errors import LoadError
from probes.filters import MapSettings
from probes.kernel import bpf, filters
from probes.kernel.messages import MAPS, ProbeReport, Request, receive
from probes.kernel.source import STREAMS, possible_cpus
from probes.kernel.uprobes import Uprobes
from probes.registry import all_probes

_PACKAGES = Path(__file__).parents[2]

_COUNTERS = struct.Struct("<3Q")
"""struct hl_counters of hookline.h."""


@dataclass(frozen=True, slots=True)
class Counters:
    """One kind's counts in the kernel in one stream of numbers since the start."""

    emitted: int
    """Events that got a number, whether the ring took them or not."""

    dropped: int
    """Of these, events that the ring had no room for."""

    filtered: int
    """Events that the configuration left out; they got no number."""


class Loading:
    """A loader child at work. Start it early, then do something else, then `wait`."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child may write
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
        # Of a child that is gone already, `wait` tells.
        with contextlib.suppress(OSError):
            self._channel.sendall(msgspec.json.encode(request) + b"\n")

    def wait(self) -> Loaded:
        """The loaded probes; blocks until the child is done (about 0.5 s).

        Raises:
            LoadError: the child failed, or no probe at all could be attached.
        """
        try:
            answer, fds = receive(self._channel)
        except (LoadError, OSError):
            self._child.wait()
            self._stderr.seek(0)
            log = self._stderr.read().decode("utf-8", "replace")
            raise LoadError(f"the loader ended with {self._child.returncode} instead of an answer", log) from None
        finally:
            self.close()
        if answer.error:
            raise LoadError(answer.error, answer.log)
        programs_at = len(MAPS)
        extra_at = programs_at + len(answer.programs)
        links_at = extra_at + answer.extra_maps
        return Loaded(
            ring_bytes=self._request.ring_bytes,
            reports=answer.probes,
            maps=dict(zip(MAPS, fds, strict=False)),
            programs=dict(zip(answer.programs, fds[programs_at:extra_at], strict=True)),
            extra_maps=fds[extra_at:links_at],
            links=fds[links_at:],
        )

    def close(self) -> None:
        """End the child if it still runs, and wait for it."""
        self._channel.close()
        self._child.wait()
        self._stderr.close()


class Loaded:
    """Attached probes. Closing detaches them; the ring can be read until then."""

    def __init__(
        self,
        *,
        ring_bytes: int,
        reports: tuple[ProbeReport, ...],
        maps: dict[str, int],
        programs: dict[str, int],
        extra_maps: list[int],
        links: list[int],
    ) -> None:
        self.ring_bytes = ring_bytes
        self.reports = reports
        self.programs = programs
        """Descriptors by PROBE/PROGRAM; of fentry and fexit programs, by PROBE/PROGRAM FUNCTION."""

        self._maps = maps
        self._extra_maps = extra_maps
        self._links = links
        self._cpus = possible_cpus()
        self.uprobes = Uprobes(self._for_files())
        """What is attached to files, as they are found."""

    def _for_files(self) -> list[tuple[str, str, int]]:
        """Probe, program and descriptor of everything for which there are files to find."""
        wanted = {
            (report.name, hook.program)
            for report in self.reports
            if not report.error
            for form in all_probes()[report.name].forms
            if form.name == report.form
            for hook in form.hooks
            if hook.files is not None
        }
        keyed = ((probe, program, f"{probe}/{program}") for probe, program in sorted(wanted))
        return [(probe, program, self.programs[key]) for probe, program, key in keyed if key in self.programs]

    @property
    def ring_fd(self) -> int:
        return self._maps["hl_events"]

    def counters(self, slot: int) -> list[Counters]:
        """The counters of one kind, of each stream of numbers; `slot` as in `probes.layout.c_header`.

        The streams are those of the possible CPUs, of the records for programs that can be preempted, and
        one for events that found no such record free.
        """
        raw = bpf.lookup(self._maps["hl_counters"], struct.pack("<I", slot), _COUNTERS.size * self._cpus)
        for lane in range(slot * STREAMS, (slot + 1) * STREAMS):
            raw += bpf.lookup(self._maps["hl_lane_counters"], struct.pack("<I", lane), _COUNTERS.size)
        return [Counters(*values) for values in _COUNTERS.iter_unpack(raw)]

    def skipped_by_kernel(self) -> dict[str, int]:
        """Times that the kernel skipped a probe's programs because they were running already, before any number.

        Zeros before Linux 5.12, which does not count them.
        """
        skipped = dict.fromkeys((name.partition("/")[0] for name in self.programs), 0)
        for name, fd in self.programs.items():
            skipped[name.partition("/")[0]] += bpf.recursion_misses(fd)
        return skipped

    def set_filters(self, settings: MapSettings) -> None:
        """Change what the kernel leaves out, while everything runs."""
        filters.apply(
            settings,
            settings_fd=self._maps["hl_settings"],
            exe_fd=self._maps["hl_excluded_exe"],
            uid_fd=self._maps["hl_excluded_uid"],
        )

    def detach(self) -> None:
        """Stop the programs; what they sent is in the ring then, and stays."""
        self.uprobes.close()
        while self._links:
            os.close(self._links.pop())
        bpf.await_programs()

    def close(self) -> None:
        """Detach and let go of every descriptor."""
        self.detach()
        for fds in (self.programs, self._maps):
            while fds:
                os.close(fds.popitem()[1])
        while self._extra_maps:
            os.close(self._extra_maps.pop())

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
