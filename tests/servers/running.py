# SPDX-License-Identifier: GPL-2.0-or-later
"""Which servers there are: those that ``make services`` keeps running, and those of one test session."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.servers import artifacts
from tests.servers.elasticsearch import Elasticsearch, elasticsearch
from tests.servers.kafka import Kafka, kafka
from tests.servers.process import Server, started_at

AnyServer = Kafka | Elasticsearch


def names() -> tuple[str, ...]:
    """Of the servers that there are."""
    return tuple(_ports())


def lasting(name: str) -> AnyServer:
    """The server of this checkout that ``make services`` starts and stops."""
    return _made(name, _folder(name), _ports()[name], tied=False)


def is_lasting(name: str) -> bool:
    """Whether ``make services`` has started it; this makes and fetches nothing."""
    return Server(name, _folder(name), (), {}, lambda: False).is_running()


@contextmanager
def of_session(name: str) -> Iterator[AnyServer]:
    """The one that ``make services`` keeps running, or else one for this session, which ends and goes with it.

    Raises:
        ServersUnavailable: it cannot be had here.
    """
    if is_lasting(name):
        yield lasting(name)
        return
    sessions = artifacts.cache_folder() / "sessions"
    _forget_the_dead(sessions)
    ports = {key: free_port() for key in _ports()[name]}
    made = _made(name, sessions / str(os.getpid()) / name, ports, tied=True)
    try:
        made.server.start()
        yield made
    finally:
        made.server.stop()
        made.server.remove()


def _made(name: str, folder: Path, ports: dict[str, int], *, tied: bool) -> AnyServer:
    if name == "kafka":
        return kafka(folder, tied=tied, **ports)
    return elasticsearch(int(name.rpartition("-")[2]), folder, ports["port"], ports["second_port"], tied=tied)


def _ports() -> dict[str, dict[str, int]]:
    return tomllib.loads((artifacts.HERE / "servers.toml").read_text(encoding="utf-8"))


def _folder(name: str) -> Path:
    checkout = hashlib.sha256(str(artifacts.HERE).encode()).hexdigest()[:8]
    return artifacts.cache_folder() / f"servers-{checkout}" / name


def _forget_the_dead(sessions: Path) -> None:
    for session in sessions.glob("[0-9]*"):
        if started_at(int(session.name)) is None:
            for folder in session.iterdir():
                Server(folder.name, folder, (), {}, lambda: False).remove()
            session.rmdir()
