# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of an elasticsearch sink refuses, and what opening the sink does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from elastic_transport import HttpxAsyncHttpNode

from sinks.elasticsearch import ElasticsearchConfig, open_sink
from sinks.elasticsearch.client import Client
from sinks.protocol import SinkError


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"schema": "smith"}, "schema must be"),
        ({"hosts": ("localhost:9200",)}, 'hosts must be URLs such as .*, not "localhost:9200"'),
        ({"hosts": ("http://a:b@127.0.0.1",)}, "must not hold a password"),
        ({"hosts": ("http://127.0.0.1:99999",)}, "hosts must be URLs"),
        ({"hosts": ("http://127.0.0.1:0",)}, "hosts must be URLs"),
        ({"hosts": ("http://a..b:9200",)}, "hosts must name hosts, which 'a..b' is not"),
        ({"hosts": (f"http://{'a' * 64}:9200",)}, "hosts must name hosts"),
        ({"hosts": ("http://xn--a:9200",)}, "hosts must name hosts, which 'xn--a' is not"),
        ({"ca_file": "a\0b"}, "ca_file must not hold a NUL"),
        ({"hosts": ("http://a\0b:1",)}, "hosts must not hold a NUL"),
        ({"cert_file": "x"}, "need each other"),
        ({"user": "x"}, "need each other"),
        ({"password_file": "x"}, "need each other"),
        ({"user": "x", "password_file": "x", "password_env": "X"}, "exclude each other"),
        ({"user": "x", "password_file": "x", "api_key_file": "x"}, "exclude each other"),
        ({"hosts": ("http://192.0.2.1:9200",), "api_key_env": "X"}, "must begin with https"),
    ],
)
def test_what_does_not_fit(keys: dict[str, Any], sentence: str) -> None:
    """Keys that contradict each other, and passwords that would travel in the open, are refused."""
    with pytest.raises(ValueError, match=sentence):
        ElasticsearchConfig(**keys)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"user": "x", "password_file": "/nowhere/p"}, "password_file: /nowhere/p cannot be read"),
        ({"api_key_env": "HOOKLINE_TEST_UNSET"}, "the variable HOOKLINE_TEST_UNSET is not set"),
        ({"hosts": ("https://127.0.0.1",), "ca_file": "/nowhere/ca"}, "ca_file: /nowhere/ca cannot be used"),
        (
            {"hosts": ("https://127.0.0.1",), "cert_file": "/nowhere/c", "key_file": "/nowhere/k"},
            "/nowhere/c and /nowhere/k cannot be used",
        ),
    ],
)
async def test_files_that_cannot_be_used(keys: dict[str, Any], sentence: str) -> None:
    """A sink whose secrets or certificates are missing is not opened, and says which."""
    with pytest.raises(SinkError, match=sentence):
        async with open_sink(ElasticsearchConfig(**keys)):
            pass


@pytest.mark.parametrize("key", ["ä", "a\x7fb"])
async def test_an_api_key_that_no_header_can_hold(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key with other characters is refused when the sink is opened, not with the first request."""
    monkeypatch.setenv("HOOKLINE_TEST_KEY", key)
    with pytest.raises(SinkError, match="no encoded API key"):
        async with open_sink(ElasticsearchConfig(api_key_env="HOOKLINE_TEST_KEY")):
            pass


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("http://[::1]:9201", "http://[::1]:9201"),
        ("http://[::1]", "http://[::1]:9200"),
        ("http://h", "http://h:9200"),
        ("https://s/es", "https://s:443/es"),
        ("http://h:", "http://h:9200"),
        ("http://b\u00fccher:1", "http://xn--bcher-kva:1"),
    ],
)
def test_where_requests_go(host: str, url: str) -> None:
    """To the address that the configuration names, IPv6 or not, and to the usual port where it names none."""
    client = Client(ElasticsearchConfig(hosts=(host,)))
    (node,) = client._client.transport.node_pool.all()
    assert isinstance(node, HttpxAsyncHttpNode)
    assert (node.base_url, str(node.client.base_url).removesuffix("/")) == (url, url.replace(":443", ""))


async def test_opening_needs_no_server(tmp_path: Path) -> None:
    """A server that is not there yet keeps no collector from starting."""
    async with open_sink(ElasticsearchConfig(hosts=("http://127.0.0.1:9",))) as sink:
        assert sink.statistics()["requests"] == 0
