# SPDX-License-Identifier: GPL-2.0-or-later
"""What one command recorded as root, another delivers without any privilege."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tests.live.accounts import Outcome, number_of
from tests.live.collector import HOOKLINE, ROOT
from tests.live.conftest import Programs
from tests.live.loads import flood
from tests.live.tools import LIMIT_S, until, until_collecting
from tests.live.unprivileged import anybodys_folder, unprivileged


@pytest.fixture
def folder() -> Iterator[Path]:
    with anybodys_folder() as path:
        yield path


@contextmanager
def recording(*command: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A recorder that collects, and its standard error; it does not outlive the block."""
    with subprocess.Popen([*HOOKLINE, "record", *command], cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            until_collecting(process.stderr)
            yield process, process.stderr
        finally:
            process.kill()


def record(path: Path, programs: Programs, folder: Path) -> dict[str, int]:
    """Record a flood; gives what the command says that it recorded, by kind."""
    config = folder / "config.toml"
    config.write_text("[collector]\nring_bytes = 67108864\n")
    with recording(path, "--config", config) as (process, errors):
        flood(programs, folder, executions=500, files=2_000, connections=2_000)
        process.send_signal(signal.SIGTERM)
        said = errors.read().decode()
        assert process.wait(LIMIT_S) == 0, said
    counts = re.findall(r"^(\w+): recorded ([\d,]+), dropped by the ring 0,", said, re.MULTILINE)
    numbers = {kind: int(number.replace(",", "")) for kind, number in counts}
    return {kind: number for kind, number in numbers.items() if number}  # of some all was filtered


def replay(path: Path, folder: Path, name: str, schema: str = "smith") -> Outcome:
    """Replay without privileges; gives what was delivered."""
    output, ledger = folder / name, folder / f"{name}.ledger"
    options: list[str | Path] = ["--output", output, "--ledger", ledger, "--schema", schema]
    command: list[str | Path] = [*unprivileged(), *HOOKLINE, "replay", path, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    events: list[Any] = [json.loads(line) for line in output.read_bytes().splitlines()]
    return Outcome(json.loads(ledger.read_bytes()), events, 0.0, done.stderr.decode())


def test_a_recording_is_replayed_by_nobody(programs: Programs, folder: Path) -> None:
    """Without privileges a replay delivers every recorded event, each time with the same ids, in either schema."""
    path = folder / "recording"
    recorded = record(path, programs, folder)
    assert recorded["execve"] >= 500
    assert recorded["create_file"] >= 2_000
    assert recorded["connect"] >= 2_000
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    first, second = replay(path, folder, "first"), replay(path, folder, "second")
    ecs = replay(path, folder, "ecs", "ecs")
    for outcome in (first, second, ecs):
        outcome.check("output")
        delivered = {name: kind["emitted"] for name, kind in outcome.ledger["kinds"].items() if kind["emitted"]}
        assert delivered == recorded
    # What waits for a file to be hashed may come later one time than another.
    told = {event["event_id"]: event["time"] for event in first.events}
    assert told == {event["event_id"]: event["time"] for event in second.events}
    assert sorted(map(number_of, ecs.events)) == sorted(map(number_of, first.events))
    nop = str(programs("nop"))
    ran = [event for event in first.events if event["data_type"] == "59" and event["exe"] == nop]
    assert Counter(event["argv"] for event in ran) == {f"{nop} flood {number} ": 1 for number in range(500)}


def test_a_recorder_that_was_killed(folder: Path) -> None:
    """A recording without its end is refused in one sentence, with exit code 2."""
    path = folder / "recording"
    with recording(path):
        until(path.exists, "the recording")
    command: list[str | Path] = [*HOOKLINE, "replay", path, "--output", "-"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.splitlines()) == 1
    assert os.fsencode(path) in done.stderr
