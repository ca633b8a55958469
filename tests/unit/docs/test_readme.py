# SPDX-License-Identifier: GPL-2.0-or-later
"""README.md shows what the encoders write."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pipeline.encode import Encoder
from pipeline.enrich.hashes import sha256_fields
from probes.event import ProcessEvent
from probes.network.connect import Connect
from probes.process.execve import Execve
from probes.registry import all_events
from sinks.protocol import Schema
from tests.unit.docs.test_events import HOST, full, names

README = Path(__file__).parents[3] / "README.md"
SMITH, ECS = (json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", README.read_text("utf-8"), re.DOTALL))


def told(event: ProcessEvent, schema: Schema) -> dict[str, Any]:
    """The document of an event of a process in no container, as without options."""
    event.container = ""
    encoder = Encoder(run_id="run", without=sha256_fields(all_events()))
    encoder.set_host(HOST)
    document: dict[str, Any] = json.loads(encoder([event], schema, 0))
    return document


def test_the_execution_in_smith() -> None:
    """The sample has every field of an execution, in the encoder's order."""
    assert list(SMITH) == list(told(full(Execve), "smith"))  # type: ignore[arg-type]


def test_the_connection_in_ecs() -> None:
    """The sample has every field of a TCP connection of a process without a terminal, in the encoder's order."""
    event = full(Connect, tty=b"", path=b"", protocol=6)
    assert list(names(ECS)) == list(names(told(event, "ecs")))  # type: ignore[arg-type]
