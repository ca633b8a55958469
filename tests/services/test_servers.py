# SPDX-License-Identifier: GPL-2.0-or-later
"""The servers that the other tests talk to."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.servers.elasticsearch import Elasticsearch
from tests.servers.kafka import Kafka
from tests.servers.process import NOBODY, Server


def owner(server: Server) -> int:
    pid = (server.folder / "pid").read_text().split()[0]
    return Path(f"/proc/{pid}").stat().st_uid


def test_elasticsearch_8_is_real_and_open(elasticsearch_8: Elasticsearch) -> None:
    """Version 8 answers without a password, runs on one node of that version, and not as root."""
    (node,) = elasticsearch_8.ask("GET", "/_nodes")["nodes"].values()
    assert node["version"].startswith("8.19.")
    assert owner(elasticsearch_8.server) == (NOBODY if os.geteuid() == 0 else os.geteuid())


def test_elasticsearch_9_is_real_and_closed(elasticsearch_9: Elasticsearch) -> None:
    """Version 9 answers to who has its authority, a client certificate and a password, and to nobody else."""
    (node,) = elasticsearch_9.ask("GET", "/_nodes")["nodes"].values()
    assert node["version"].startswith("9.")
    assert owner(elasticsearch_9.server) == (NOBODY if os.geteuid() == 0 else os.geteuid())
    context = ssl.create_default_context(cafile=str(elasticsearch_9.tls / "ca.pem"))
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        urllib.request.urlopen(elasticsearch_9.url, timeout=10, context=context)  # noqa: S310 - ours
    context.load_cert_chain(elasticsearch_9.tls / "client.pem", elasticsearch_9.tls / "client.key")
    with pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(elasticsearch_9.url, timeout=10, context=context)  # noqa: S310 - ours
    refused.value.close()


def test_kafka_is_real(kafka: Kafka) -> None:
    """The broker answers in its own protocol, and does not run as root."""
    assert kafka.server.is_ready()
    assert owner(kafka.server) == (NOBODY if os.geteuid() == 0 else os.geteuid())


def test_a_server_ends_and_comes_back(kafka: Kafka) -> None:
    """Killed, it is gone; started again, it answers at the same place."""
    kafka.server.kill()
    assert not kafka.server.is_running()
    kafka.server.start()
    assert kafka.server.is_ready()
