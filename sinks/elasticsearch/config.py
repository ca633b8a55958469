# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of an elasticsearch sink may hold."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from sinks.checks import check_host
from sinks.protocol import Schema, SinkConfig

Text = Annotated[str, msgspec.Meta(min_length=1)]
Url = Annotated[str, msgspec.Meta(min_length=1, description="URLs such as https://example.org:9200")]
Namespace = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9_.]{1,100}$", description="1 to 100 lower-case letters, digits, _ and ., as data streams have"
    ),
]
Seconds = Annotated[float, msgspec.Meta(ge=0.1, le=3600.0)]


class ElasticsearchConfig(SinkConfig, frozen=True, kw_only=True, tag="elasticsearch"):
    """A table with ``type = "elasticsearch"``."""

    accepts: ClassVar[frozenset[Schema]] = frozenset({"ecs"})

    schema: Schema = "ecs"
    """No other: the data streams' mapping is that of ecs."""

    when_full: Literal["drop", "block", "spool"] = "spool"

    hosts: Annotated[tuple[Url, ...], msgspec.Meta(min_length=1)] = ("http://127.0.0.1:9200",)
    """Nodes of one cluster; requests go to them in turn, and past those that do not answer."""

    namespace: Namespace = "default"
    """The end of the data streams' names: ``logs-hookline.DATASET-NAMESPACE``."""

    compatible_with: Annotated[int, msgspec.Meta(ge=8, le=9)] = 8
    """Version of the REST API that is asked for. Servers of version 8 refuse 9; those of 9 take both."""

    bulk_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=64 << 20)] = 1 << 20
    """Bytes of one request before compression; a larger batch is several requests."""

    max_requests: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Requests at a time, at most. How many it is depends on how the server copes."""

    compression: Literal["none", "gzip"] = "gzip"

    timeout_s: Seconds = 30.0
    """Seconds in which a request must be answered."""

    dead_letter_file: Text = "/var/lib/hookline/elasticsearch-dead-letters.ndjson"
    """Where events are kept that the server refuses for good, mode 0600."""

    dead_letter_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 << 20
    """Bytes at which that file is rotated; one older file is kept."""

    user: str = ""
    password_file: str = ""
    """A file whose first line is the password of `user`."""

    password_env: str = ""
    """The environment variable that holds it, where there is no file."""

    api_key_file: str = ""
    """A file whose first line is an encoded API key; instead of user and password."""

    api_key_env: str = ""
    """The environment variable that holds it, where there is no file."""

    ca_file: str = ""
    """PEM of the authorities to trust; empty: the system's."""

    cert_file: str = ""
    key_file: str = ""
    """PEM of the client's certificate and its key, for servers that ask for them."""

    verify_tls: bool = True
    """Whether the server must prove who it is. Without, anybody on the way can read and change events."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schema != "ecs":
            raise ValueError('schema must be "ecs" for an elasticsearch sink')
        for host in self.hosts:
            _check_url(host)
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("cert_file and key_file need each other")
        password, key = self.password_file or self.password_env, self.api_key_file or self.api_key_env
        if bool(self.user) != bool(password):
            raise ValueError("user and one of password_file and password_env need each other")
        if (self.password_file and self.password_env) or (self.api_key_file and self.api_key_env):
            raise ValueError("password_file and password_env, or api_key_file and api_key_env, exclude each other")
        if password and key:
            raise ValueError("user and an API key exclude each other")
        if (password or key) and any(host.startswith("http:") and not _is_loopback(host) for host in self.hosts):
            raise ValueError("hosts must begin with https:// where a password or an API key is sent to them")


def _check_url(host: str) -> None:
    # What stands before an @ may be a password.
    no_url = f'hosts must be URLs such as https://example.org:9200, not "{host.rpartition("@")[2][:60]}"'
    try:
        parts = urlsplit(host)
        wrong = parts.scheme not in {"http", "https"} or not parts.hostname or bool(parts.query or parts.fragment)
        wrong |= parts.port == 0
    except ValueError:
        raise ValueError(no_url) from None
    if parts.username or parts.password:
        raise ValueError("hosts must not hold a password: use user and password_file")
    if wrong:
        raise ValueError(no_url)
    check_host(parts.hostname or "", "hosts")


def _is_loopback(host: str) -> bool:
    name = urlsplit(host).hostname or ""
    return name in {"localhost", "::1"} or name.startswith("127.")
