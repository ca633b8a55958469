# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Kafka: one broker that is its own KRaft controller, with a listener each in the open, for TLS and for SASL."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from tests.servers import artifacts
from tests.servers.process import Server, give_away

_CLUSTER_ID = "4L6g3nShT-eMCtK--X86sw"
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{second_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls_port},SASL_SSL://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{second_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{tls_port},SASL_SSL://127.0.0.1:{sasl_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:hookline;User:with-certificate
ssl.keystore.type=PEM
ssl.keystore.location={folder}/tls/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/tls/ca.pem
listener.name.ssl.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*$/with-certificate/
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required {plain_users};
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
"""

USERS = ("hookline", "stranger")
"""Both have passwords; the first may do everything, the second nothing."""

_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Kafka:
    """A broker and where it is."""

    server: Server
    address: str
    """HOST:PORT, for ``bootstrap.servers``."""

    tls_address: str
    sasl_address: str

    @property
    def tls(self) -> Path:
        """Where ca.pem, client.pem and client.key are."""
        return self.server.folder / "tls"

    def password_file(self, user: str) -> Path:
        """Of one of `USERS`."""
        return self.server.folder / f"password-{user}"


def kafka(folder: Path, *, port: int, second_port: int, tls_port: int, sasl_port: int, tied: bool = True) -> Kafka:
    """A broker that is not started yet; `folder` is made and formatted if it is new."""
    jars, java = artifacts.kafka(), str(artifacts.java(17) / "bin" / "java")
    properties = folder / "server.properties"
    environment = {"LC_ALL": "C.UTF-8"}
    command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
    if not properties.exists():
        (folder / "data").mkdir(parents=True)
        (folder / "log4j2.properties").write_text((artifacts.HERE / "log4j2.properties").read_text())
        _make_certificates(folder / "tls")
        passwords = {user: _make_password(folder / f"password-{user}") for user in USERS}
        properties.write_text(
            _PROPERTIES.format(
                port=port,
                second_port=second_port,
                tls_port=tls_port,
                sasl_port=sasl_port,
                data=folder / "data",
                folder=folder,
                module="org.apache.kafka.common.security",
                plain_users=" ".join(f'user_{user}="{password}"' for user, password in passwords.items()),
            )
        )
        formatting = [*command, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        for mechanism in _MECHANISMS:
            for user, password in passwords.items():
                formatting += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        subprocess.run(formatting, check=True, capture_output=True)
        give_away(folder)
    command[1:1] = [f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"]
    command += ["kafka.Kafka", str(properties)]
    server = Server("kafka", folder, command, environment, lambda: _answers(port), tied)
    return Kafka(server, *(f"127.0.0.1:{each}" for each in (port, tls_port, sasl_port)))


def _make_password(file: Path) -> str:
    password = secrets.token_hex(16)
    file.touch(0o600)
    file.write_text(f"{password}\n")
    return password


def _make_certificates(folder: Path) -> None:
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    # Java reads no other form of a key.
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain = b"".join(pem.bytes() for pem in server.cert_chain_pems)
    (folder / "server.pem").write_bytes(key.private_bytes(*form) + chain)
    client = authority.issue_cert("hookline@tests")
    client.private_key_pem.write_to_path(str(folder / "client.key"))
    client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))


def _answers(port: int) -> bool:
    """Whether the broker answers the request that every client begins with (ApiVersions, version 0)."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        request = struct.pack(">hhih", 18, 0, 1, -1)
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.recv(10, socket.MSG_WAITALL)
    return len(answer) == 10 and struct.unpack_from(">ih", answer, 4) == (1, 0)
