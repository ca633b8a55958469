# SPDX-License-Identifier: GPL-2.0-or-later
"""A real Elasticsearch of one node: version 8 in the open, version 9 behind TLS, client certificates and passwords."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shutil
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import trustme

from tests.servers import artifacts
from tests.servers.process import Server, give_away

USER = "hookline"

_SETTINGS = """\
cluster.name: hookline-tests
node.name: one
discovery.type: single-node
path.data: {folder}/data
path.logs: {folder}/logs
http.host: 127.0.0.1
http.port: {port}
transport.host: 127.0.0.1
transport.port: {transport}
cluster.routing.allocation.disk.threshold_enabled: false
xpack.security.enabled: {secured}
"""
_SECURED = """\
xpack.security.http.ssl.enabled: true
xpack.security.http.ssl.certificate: tls/server.pem
xpack.security.http.ssl.key: tls/server.key
xpack.security.http.ssl.certificate_authorities: [tls/ca.pem]
xpack.security.http.ssl.client_authentication: required
thread_pool.write.size: 1
thread_pool.write.queue_size: 2
"""
_OPTIONS = """\
-Xms512m
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:-UsePerfData
-Djava.io.tmpdir={folder}/tmp
"""


@dataclass(frozen=True)
class Elasticsearch:
    """A node and how to talk to it."""

    server: Server
    major: int
    url: str
    secured: bool

    @property
    def tls(self) -> Path:
        """Where ca.pem, client.pem and client.key are."""
        return self.server.folder / "config" / "tls"

    @cached_property
    def password(self) -> str:
        """Of `USER`, who may do everything."""
        return (self.server.folder / "password").read_text()

    def ask(self, method: str, path: str, body: object = None, *, timeout_s: float = 30.0) -> Any:
        """What it answers, whatever the status; tests look at it past the client that they test."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/x-ndjson" if isinstance(body, bytes) else "application/json"}
        context = None
        if self.secured:
            context = ssl.create_default_context(cafile=str(self.tls / "ca.pem"))
            context.load_cert_chain(self.tls / "client.pem", self.tls / "client.key")
            pair = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
            headers["authorization"] = f"Basic {pair}"
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=context) as answer:  # noqa: S310
                raw = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raw = error.read()
        return json.loads(raw) if raw.startswith((b"{", b"[")) else raw.decode()


def elasticsearch(major: int, folder: Path, port: int, transport: int, *, tied: bool = True) -> Elasticsearch:
    """A node that is not started yet; `folder` is made if it is new."""
    secured = major >= 9
    home = artifacts.elasticsearch(major)
    java = artifacts.java(21 if major >= 9 else 17)
    config = folder / "config"
    if not config.exists():
        for name in ("data", "logs", "tmp"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(home / "config", config)
        settings = _SETTINGS.format(folder=folder, port=port, transport=transport, secured=str(secured).lower())
        (config / "elasticsearch.yml").write_text(settings + _SECURED * secured)
        (config / "jvm.options").write_text(_OPTIONS.format(folder=folder))
        if secured:
            _make_certificates(config / "tls")
            _make_user(config, folder / "password")
        give_away(folder)
    environment = {
        "ES_JAVA_HOME": str(java),
        "ES_PATH_CONF": str(config),
        "ES_TMPDIR": str(folder / "tmp"),
        "CLI_JAVA_OPTS": "-Xmx64m -XX:TieredStopAtLevel=1",  # of the launcher, which waits beside the node
    }
    node: Elasticsearch
    command = [str(home / "bin" / "elasticsearch")]
    server = Server(f"elasticsearch-{major}", folder, command, environment, lambda: _answers(node), tied)
    node = Elasticsearch(server, major, f"http{'s' * secured}://127.0.0.1:{port}", secured)
    return node


def _answers(node: Elasticsearch) -> bool:
    health = node.ask("GET", "/_cluster/health", timeout_s=5)
    return isinstance(health, dict) and health.get("status") in {"green", "yellow"}


def _make_certificates(folder: Path) -> None:
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, identity in (("server", "127.0.0.1"), ("client", "hookline@tests")):
        certificate = authority.issue_cert(identity, "localhost")
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))


def _make_user(config: Path, password_file: Path) -> None:
    password, salt, rounds = secrets.token_urlsafe(), secrets.token_bytes(32), 10_000
    derived = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds, 32)
    digest = f"{{PBKDF2}}{rounds}${base64.b64encode(salt).decode()}${base64.b64encode(derived).decode()}"
    (config / "users").write_text(f"{USER}:{digest}\n")
    (config / "users_roles").write_text(f"superuser:{USER}\n")
    password_file.touch(0o600)
    password_file.write_text(password)
