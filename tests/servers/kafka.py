# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Kafka: one broker that is its own KRaft controller."""

from __future__ import annotations

import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers import artifacts
from tests.servers.process import Server, give_away

_CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""


@dataclass(frozen=True)
class Kafka:
    """A broker and where it is."""

    server: Server
    address: str
    """HOST:PORT, for ``bootstrap.servers``."""


def kafka(folder: Path, port: int, controller: int, *, tied: bool = True) -> Kafka:
    """A broker that is not started yet; `folder` is made and formatted if it is new."""
    jars, java = artifacts.kafka(), str(artifacts.java(17) / "bin" / "java")
    properties = folder / "server.properties"
    environment = {"LC_ALL": "C.UTF-8"}
    command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
    if not properties.exists():
        (folder / "data").mkdir(parents=True)
        (folder / "log4j2.properties").write_text((artifacts.HERE / "log4j2.properties").read_text())
        properties.write_text(_PROPERTIES.format(port=port, controller=controller, data=folder / "data"))
        formatting = [*command, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        subprocess.run(formatting, check=True, capture_output=True)
        give_away(folder)
    command[1:1] = [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"]
    command += ["kafka.Kafka", str(properties)]
    server = Server("kafka", folder, command, environment, lambda: _answers(port), tied)
    return Kafka(server, f"127.0.0.1:{port}")


def _answers(port: int) -> bool:
    """Whether the broker answers the request that every client begins with (ApiVersions, version 0)."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        request = struct.pack(">hhih", 18, 0, 1, -1)
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(10, socket.MSG_WAITALL)
    return len(answer) == 10 and struct.unpack_from(">ih", answer, 4) == (1, 0)
