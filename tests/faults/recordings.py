# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording of everything that the default probes tell, as many times over as a test needs events."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from pipeline.recording import Recorder, open_recording
from probes.event import ProcessEvent
from probes.kernel.loader import Counters
from probes.kernel.ring import Span
from probes.layout import layout
from tests.live.collector import HOOKLINE, ROOT
from tests.live.conftest import SOURCES
from tests.live.tools import LIMIT_S, until_collecting

_ROUNDS = 60
"""Of what mixed.py does; each makes some twenty events."""


def record_mixed(path: Path, folder: Path) -> None:
    """Record executions, files, connections, names, signals and more, done by one process and its children."""
    with subprocess.Popen([*HOOKLINE, "record", path], cwd=ROOT, stderr=subprocess.PIPE) as recorder:
        assert recorder.stderr is not None
        until_collecting(recorder.stderr)
        command: list[str | Path] = [sys.executable, "-B", SOURCES / "mixed.py", folder, str(_ROUNDS), "/bin/true"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        try:
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=4 * LIMIT_S)
        finally:
            recorder.terminate()
            recorder.stderr.read()
    assert recorder.returncode == 0


def _at(name: str) -> int:
    return next(member.offset for member in layout(ProcessEvent).header if member.name == name)


def multiplied(source: Path, path: Path, least: int) -> int:
    """The events of `source` again and again into `path` until there are `least`, each with a number of its own.

    Gives how many there are.
    """
    sequence, cpu = _at("sequence"), _at("cpu")
    with closing(open_recording(source)) as recording:
        spans, header = list(recording.spans()), recording.header
        emitted = {(kind, on): each.emitted for kind, on, each in recording.counters}
        assert not any(each.dropped for _kind, _cpu, each in recording.counters)
    records = sum(len(span.records) for span in spans)
    times = -(-least // records)
    with Recorder(path, run_id=header.run_id, boot_offset_ns=header.boot_offset_ns, host=header.host) as recorder:
        for turn in range(times):
            for span in spans:
                data = bytearray(span.data)
                for offset, _size in span.records:
                    _length, kind = struct.unpack_from("<II", data, offset)
                    (on,) = struct.unpack_from("<I", data, offset + cpu)
                    (number,) = struct.unpack_from("<Q", data, offset + sequence)
                    struct.pack_into("<Q", data, offset + sequence, number + turn * emitted[kind, on])
                recorder.write(Span(bytes(data), span.records))
        recorder.finish((kind, on, Counters(number * times, 0, 0)) for (kind, on), number in emitted.items())
    return records * times
