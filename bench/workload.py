# SPDX-License-Identifier: GPL-2.0-or-later
"""Records of real executions, taken from the running kernel, for benchmarks to run on."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Container
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import Config
from pipeline.recording import Header, Recording, open_recording
from probes.event import ProcessEvent
from probes.kernel.loader import Counters
from probes.kernel.ring import Span
from probes.layout import layout
from probes.process.execve import Execve

EXECUTIONS = 40_000
STEPS = 10
"""In which they are recorded."""

_KIND_AT = 4
"""Behind the length: see docs/architecture.md, "On the wire"."""

_LIFE_NS = 60_000_000_000
"""More than a recording takes."""

_SPAWNER = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
extern char **environ;
int main(int argc, char **argv)
{
	int first = atoi(argv[1]), count = atoi(argv[2]);
	for (int i = first; i < first + count; i++) {
		char number[32];
		char *arguments[] = { argv[3 + i % (argc - 3)], "--job", number, "--verbose", NULL };
		pid_t pid;
		snprintf(number, sizeof number, "%d", i);
		if (posix_spawn(&pid, arguments[0], NULL, NULL, arguments, environ))
			return 1;
		waitpid(pid, NULL, 0);
	}
	return 0;
}
"""

_PROGRAMS = ("/usr/bin/true", "/usr/bin/echo", "/usr/bin/id", "/usr/bin/uname", "/usr/bin/basename")


@dataclass(frozen=True)
class Workload:
    """Records of the spawners' executions alone, numbered anew, in spans as the reader takes them from a full ring."""

    header: Header
    spans: list[Span]
    counters: list[tuple[int, int, Counters]]

    @property
    def records(self) -> int:
        return sum(len(span.records) for span in self.spans)


def _at(name: str) -> int:
    return next(member.offset for member in layout(ProcessEvent).header if member.name == name)


def _workload(recording: Recording, ppids: Container[int] | None) -> Workload:
    sequences: Counter[int] = Counter()
    spans: list[Span] = []
    data = bytearray()
    records: list[tuple[int, int]] = []
    for span in recording.spans():
        for offset, size in span.records:
            record = bytearray(span.data[offset : offset + size])
            if struct.unpack_from("<I", record, _KIND_AT) != (Execve.data_type,):
                continue
            (ppid,) = struct.unpack_from("<I", record, _at("ppid"))
            if ppids is not None and ppid not in ppids:
                continue
            (cpu,) = struct.unpack_from("<I", record, _at("cpu"))
            sequences[cpu] += 1
            struct.pack_into("<Q", record, _at("sequence"), sequences[cpu])
            data += bytes(-len(data) % 8)
            records.append((len(data), size))
            data += record
            if len(data) >= Config().collector.span_bytes:
                spans.append(Span(bytes(data), records))
                data, records = bytearray(), []
    spans.append(Span(bytes(data), records))
    counters = [(Execve.data_type, cpu, Counters(emitted, 0, 0)) for cpu, emitted in sequences.items()]
    return Workload(recording.header, spans, counters)


def repeated(workload: Workload, times: int) -> Workload:
    """The same so many times, one after the other: numbered on, and each time later lives of the same ids."""
    cpu_at, sequence_at = _at("cpu"), _at("sequence")
    later_at = [_at("time_ns"), _at("start_time")]
    emitted = {cpu: counters.emitted for _, cpu, counters in workload.counters}
    spans: list[Span] = []
    for life in range(times):
        for span in workload.spans:
            data = bytearray(span.data)
            for offset, _ in span.records:
                (cpu,) = struct.unpack_from("<I", data, offset + cpu_at)
                _add(data, offset + sequence_at, life * emitted[cpu])
                for at in later_at:
                    _add(data, offset + at, life * _LIFE_NS)
            spans.append(Span(bytes(data), span.records))
    counters = [(kind, cpu, Counters(times * emitted[cpu], 0, 0)) for kind, cpu, _ in workload.counters]
    return Workload(workload.header, spans, counters)


def _add(data: bytearray, at: int, more: int) -> None:
    (value,) = struct.unpack_from("<Q", data, at)
    struct.pack_into("<Q", data, at, value + more)


def recorded_executions(path: Path) -> Workload:
    """The executions of a recording, whoever caused them. Raises RecordingError."""
    with closing(open_recording(path)) as recording:
        return _workload(recording, None)


def record_executions(folder: Path, step: Callable[[], None]) -> Workload:
    """Run 40,000 executions of five programs, each with arguments of its own; needs root. `step` is called 10 times."""
    source = folder / "spawner.c"
    source.write_text(_SPAWNER, encoding="ascii")
    spawner = folder / "spawner"
    subprocess.run(["/usr/bin/gcc", "-O2", "-o", spawner, source], check=True)
    path = folder / "execve.rec"
    command = [sys.executable, "-m", "pipeline.cli", "record", str(path), "--probe", "execve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as recorder:
        assert recorder.stderr is not None
        for line in recorder.stderr:
            if "collecting" in line:
                break
        spawners: dict[int, int] = {}
        for number in range(STEPS):
            part = EXECUTIONS // STEPS
            spawning = [str(spawner), str(number * part), str(part), *_PROGRAMS]
            with subprocess.Popen(spawning, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
                spawners[running.pid] = running.wait()
            step()
        recorder.terminate()
        recorder.stderr.read()
    assert not any([*spawners.values(), recorder.returncode])
    with closing(open_recording(path)) as recording:
        workload = _workload(recording, spawners)
    assert workload.records == EXECUTIONS
    return workload
