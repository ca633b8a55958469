# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's own log."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from pipeline.log import set_up
from pipeline.settings import Log


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_is_one_object_a_line() -> None:
    """Into a pipe each entry is one line of JSON with level and time, whatever the values hold."""
    stream = io.StringIO()
    set_up(Log(), stream)
    structlog.get_logger().warning("a\nb", path="/x\x1b[2J\n")
    [line] = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "a\nb", "level": "warning", "path": "/x\x1b[2J\n"}


def test_lines_for_people_are_lines() -> None:
    """For people each entry is one line without control characters of the host's making."""
    stream = io.StringIO()
    set_up(Log(format="console"), stream)
    structlog.get_logger().info("found", path="/x\x1b[2J\n")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()
    assert r"/x\x1b[2J\n" in stream.getvalue()


def test_level() -> None:
    """What is below the level is not told."""
    stream = io.StringIO()
    set_up(Log(level="warning"), stream)
    structlog.get_logger().info("no")
    structlog.get_logger().error("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_a_lost_reader_does_not_stop_the_collector() -> None:
    """Logging into a pipe that nobody reads any more, or a closed stream, raises nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    set_up(Log(), stream)
    log = structlog.get_logger()
    log.info("into the void")
    os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    stream.close()
    log.info("once more")


def test_what_structlog_would_load_stays_out() -> None:
    """A collector is without rich and greenlet, which take memory; whoever needs them later gets them all the same."""
    program = """
import sys
import pipeline.log, pipeline.run  # in this order, as `start.run` imports them
print([name for name in ("rich", "greenlet") if name in sys.modules])
import rich.console, greenlet
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
