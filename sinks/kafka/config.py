# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of a kafka sink may hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sinks.checks import check_host
from sinks.protocol import SinkConfig

Text = Annotated[str, msgspec.Meta(min_length=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600.0)]


class KafkaConfig(SinkConfig, frozen=True, kw_only=True, tag="kafka"):
    """A table with ``type = "kafka"``."""

    when_full: Literal["drop", "block", "spool"] = "spool"

    servers: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)] = ("127.0.0.1:9092",)
    """HOST:PORT of some brokers; they name the others."""

    topic: Text = "hookline"
    """The topic of every event; ``{data_type}`` in it stands for the kind's number."""

    compression: Literal["none", "gzip", "lz4", "zstd"] = "zstd"
    max_request_bytes: Annotated[int, msgspec.Meta(ge=16_384, le=1 << 30)] = 1_048_576
    """Bytes of one request; a longer message is a dead letter. The broker has a limit of its own."""

    timeout_s: Seconds = 10.0
    """Seconds in which a broker must answer."""

    agent_id: str = ""
    """The header ``agent_id``; empty: the host's machine id."""

    dead_letter_file: Text = "/var/lib/hookline/dead-letters.ndjson"
    """Where events are kept that no retry can deliver, mode 0600."""

    dead_letter_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 << 20
    """Bytes at which that file is rotated; one older file is kept."""

    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    ca_file: str = ""
    """PEM of the authorities to trust; empty: the system's."""

    cert_file: str = ""
    key_file: str = ""
    """PEM of the client's certificate and its key, for brokers that ask for them."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    user: str = ""
    password_file: str = ""
    """A file whose first line is the password of `user`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for server in self.servers:
            _check_server(server)
        if self.security.startswith("sasl") and not (self.user and self.password_file):
            raise ValueError(f'user and password_file are needed with security = "{self.security}"')
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file need each other")
        if "{" in self.topic.replace("{data_type}", "") or "}" in self.topic.replace("{data_type}", ""):
            raise ValueError("topic may hold {data_type} and no other braces")


def _check_server(server: str) -> None:
    """As the client reads it: HOST, HOST:PORT, IPv6 or [IPv6]:PORT."""
    host, colon, port = server.rpartition(":")
    if not colon or server.endswith("]") or (server.count(":") > 1 and "[" not in server):
        host, port = server, "9092"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 1 << 16):
        raise ValueError(f"servers must have ports from 1 to 65535, as in localhost:9092, which {server!r} has not")
    check_host(host, "servers")
