# SPDX-License-Identifier: GPL-2.0-or-later
"""``hookline deadletter``: listing and sending again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import trio

from pipeline.failure import FAILED, complain
from pipeline.terminal import emit
from probes.text import printable
from sinks.deadletters import DeadLetter, read
from sinks.elasticsearch import ElasticsearchConfig, replay
from sinks.kafka import KafkaConfig
from sinks.protocol import SinkUnavailable


def show(config: ElasticsearchConfig | KafkaConfig, *, as_json: bool) -> int:
    """Print every letter; gives the exit code."""
    path = Path(config.dead_letter_file)
    none = True
    damaged: list[str] = []
    for letter in _letters(path, lambda sentence, _line: damaged.append(sentence)):
        none = False
        if as_json:
            emit(msgspec.json.encode(letter).decode() + "\n")
        else:
            emit(f"{letter.time:%Y-%m-%dT%H:%M:%SZ}  {letter.sink}  {printable(letter.reason)}\n")
    for sentence in damaged:
        complain(sentence)
    if damaged:
        return FAILED
    if none and not as_json:
        emit("no dead letters\n")
    return 0


def _letters(path: Path, damaged: Callable[[str, bytes], None]) -> Iterator[DeadLetter]:
    if path.exists() or path.with_name(f"{path.name}.1").exists():
        yield from read(path, damaged)


def send_again(config: ElasticsearchConfig) -> int:
    """Replay; gives the exit code."""
    try:
        outcome = trio.run(replay, config)
    except SinkUnavailable as error:
        complain(f"the dead letters are kept, for the server takes nothing: {error}")
        return FAILED
    emit(f"delivered {outcome.delivered}, refused again {outcome.refused}\n")
    if outcome.damaged:
        complain(
            f"{outcome.damaged} lines of {config.dead_letter_file} hold no document that can be sent; "
            f"they are kept in {config.dead_letter_file}.damaged"
        )
    return FAILED if outcome.refused or outcome.damaged else 0
