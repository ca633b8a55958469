# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output and standard error: pipes whose reader goes, terminals, closed ones."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.accounts import Outcome
from tests.live.collector import HOOKLINE, ROOT
from tests.live.conftest import Programs
from tests.live.test_hostile import HOSTILE
from tests.live.tools import LIMIT_S, toml, until, until_collecting

COLOUR = re.compile(rb"\x1b\[[0-9;]*m")


@pytest.fixture
def command(tmp_path: Path) -> list[str | Path]:
    config = tmp_path / "config.toml"
    config.write_text(toml({"metrics": {"listen": ""}}))
    return [*HOOKLINE, "run", "--config", config, "--ledger", tmp_path / "ledger"]


@contextmanager
def executions() -> Iterator[None]:
    """Something to tell, as long as the context lasts."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            subprocess.run(["true"], check=True)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_reader_that_goes_away(command: list[str | Path], tmp_path: Path) -> None:
    """`hookline run --output - | head -1` ends well and at once, and the ledger is written."""
    with (
        executions(),
        subprocess.Popen(
            [*command, "--output", "-"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(LIMIT_S) == 0, said
    assert "event_id" in first
    assert b"Traceback" not in said
    assert json.loads((tmp_path / "ledger").read_bytes())["closed"] is True


def test_a_pipe(command: list[str | Path], programs: Programs, tmp_path: Path) -> None:
    """In a pipe the console sink writes one JSON object a line, and the log stays on standard error."""
    with subprocess.Popen(
        [*command, "--output", "-"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        until_collecting(process.stderr)
        subprocess.run([programs("nop"), HOSTILE], check=True)
        process.send_signal(signal.SIGTERM)
        output, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    lines = output.splitlines()
    assert len(lines) == len(output.decode().splitlines())
    outcome = Outcome(json.loads((tmp_path / "ledger").read_bytes()), [json.loads(line) for line in lines], 0, "")
    assert any(event.get("exe") == str(programs("nop")) for event in outcome.events)
    outcome.check("output")


def test_a_terminal(command: list[str | Path], programs: Programs) -> None:
    """On a terminal an event is one readable line: of what strangers wrote no control character gets there."""
    master, terminal = os.openpty()
    seen = bytearray()

    def read() -> bytes:
        seen.extend(os.read(master, 65_536))
        return bytes(seen)

    try:
        os.set_blocking(master, False)
        with subprocess.Popen(
            [*command, "--output", "-"],
            cwd=ROOT,
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=os.environ | {"TERM": "xterm"},
        ) as process:
            assert process.stderr is not None
            until_collecting(process.stderr)
            subprocess.run([programs("nop"), b"\x1b]0;title\x07\x1b[2J\x9b2J" + HOSTILE, b"the end"], check=True)

            def told() -> bool:
                try:
                    return b"the end" in read()
                except BlockingIOError:
                    return False

            until(told, "the execution on the terminal")
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
            with contextlib.suppress(BlockingIOError):
                read()  # what came after, or the last escape would be half
    finally:
        os.close(master)
        os.close(terminal)
    assert COLOUR.search(seen)
    plain = COLOUR.sub(b"", bytes(seen)).decode().replace("\r\n", "\n")
    assert [char for char in plain if not char.isprintable() and char != "\n"] == []
    [line] = [line for line in plain.split("\n") if "title" in line]
    assert "execve" in line


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_closed_descriptors(closed: str, command: list[str | Path], tmp_path: Path) -> None:
    """With standard error or all three descriptors closed or full, a run goes well, and the ledger is written."""
    output = tmp_path / "events"
    script = f'"$@" --output {output} --duration 0.2 {closed}'
    with executions():
        done = subprocess.run(["sh", "-c", script, "sh", *command], cwd=ROOT, timeout=LIMIT_S, check=False)
    assert done.returncode == 0
    ledger = json.loads((tmp_path / "ledger").read_bytes())
    Outcome(ledger, [json.loads(line) for line in output.read_bytes().splitlines()], 0, "").check("output")
