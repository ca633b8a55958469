# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that turn over while events keep coming."""

from __future__ import annotations

import json
import re
from pathlib import Path

import zstandard

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.loads import flood
from tests.live.tools import until

NAME = re.compile(r"events-(\w+)-(\d+)\.ndjson(\.zst)?")


def content(path: Path) -> bytes:
    raw = path.read_bytes()
    return zstandard.ZstdDecompressor().stream_reader(raw).readall() if path.suffix == ".zst" else raw


def age(path: Path) -> tuple[str, int]:
    """What rotated files are ordered by."""
    match = NAME.fullmatch(path.name)
    assert match, path
    return match[1], int(match[2])


def test_rotation_under_load(programs: Programs, tmp_path: Path) -> None:
    """Rotated files, compressed, and the current one hold every line once, in order, and are closed to others."""
    tables = {"sinks.file": {"rotate_bytes": 500_000, "keep": 0}}
    with Collector(tmp_path, tables) as collector:
        flood(programs, tmp_path, executions=1_000, files=2_000, connections=2_000)
        until(lambda: len(list(tmp_path.glob("events-*.zst"))) >= 3, "rotated and compressed files")
        collector.forget()
        outcome = collector.stop()
    files = [*sorted(tmp_path.glob("events-*"), key=age), collector.output]
    outcome.events = [json.loads(line) for path in files for line in content(path).splitlines()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    outcome.check()


def test_what_is_kept(programs: Programs, tmp_path: Path) -> None:
    """Of the rotated files only the newest are kept, as many as configured."""
    tables = {"sinks.file": {"rotate_bytes": 100_000, "keep": 2}}
    with Collector(tmp_path, tables) as collector:
        flood(programs, tmp_path, executions=500, files=1_000, connections=1_000)
        outcome = collector.stop()
        until(lambda: len(list(tmp_path.glob("events-*"))) == 2, "only two rotated files")
    outcome.check_equation()
