# SPDX-License-Identifier: GPL-2.0-or-later
"""The elasticsearch sink and its setup against the real servers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pipeline.gap import Gap
from pipeline.setup import kibana, templates
from pipeline.setup.elasticsearch import setup
from probes.event import HostEvent
from probes.registry import all_probes
from sinks.deadletters import read
from sinks.elasticsearch import Refused, connect
from tests.ports import free_port
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.feeding import config_for, expected, feeding, ids
from tests.unit.docs.test_events import full
from tests.unit.pipeline.samples import host_events

_YEAR_NS = 365 * 86_400 * 10**9


@pytest.fixture(scope="session", params=["elasticsearch_8", "elasticsearch_9"])
def server(request: pytest.FixtureRequest) -> Elasticsearch:
    """Each version in turn, with the templates installed."""
    node: Elasticsearch = request.getfixturevalue(request.param)
    assert setup(config_for(node, Path("/nowhere")), None, dry_run=False, say=lambda _line: None) == 0
    return node


def properties(mapping: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Dotted names and definitions of a mapping's leaves."""
    for name, inner in mapping.get("properties", {}).items():
        if "properties" in inner:
            yield from properties(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, inner


async def test_every_event_arrives_once(server: Elasticsearch, tmp_path: Path) -> None:
    """All events are in their data stream under their ids, from several requests a batch, on server 8 and 9."""
    config = config_for(server, tmp_path, bulk_bytes=65_536)
    async with feeding(config) as feed:
        for _ in range(3):
            await feed.executions(700)
    assert feed.total("delivered") == 2_100
    assert ids(server, config) == expected(feed)


async def test_what_is_sent_again_is_there_once(server: Elasticsearch, tmp_path: Path) -> None:
    """A batch that is sent twice, since its first answer was lost, is delivered and makes no duplicate."""
    config = config_for(server, tmp_path)
    async with feeding(config) as feed:
        await feed.executions(50)
        await feed.until("delivered", 50)
        feed.sent = 0
        await feed.executions(50)
        await feed.until("delivered", 100)
        assert feed.figures()["already_there"] == 50
    assert ids(server, config) == expected(feed)


async def test_several_hosts(server: Elasticsearch, tmp_path: Path) -> None:
    """Of two hosts one does not answer: all events arrive by the other, once."""
    nobody = f"{server.url.rpartition(':')[0]}:{free_port()}"
    config = config_for(server, tmp_path, hosts=(nobody, server.url), bulk_bytes=65_536)
    async with feeding(config) as feed:
        for _ in range(3):
            await feed.executions(300)
    assert feed.total("delivered") == 900
    assert ids(server, config) == expected(feed)


@pytest.mark.parametrize("compatible_with", [8, 9])
async def test_version_9_of_the_api(elasticsearch_9: Elasticsearch, compatible_with: int, tmp_path: Path) -> None:
    """A server 9 takes both versions of the REST API."""
    async with feeding(config_for(elasticsearch_9, tmp_path, compatible_with=compatible_with)) as feed:
        await feed.executions(1)
    assert feed.total("delivered") == 1


async def test_api_key(elasticsearch_9: Elasticsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API key is sent as one, which the server reads and does not know (this one can make none)."""
    key = base64.b64encode(b"an-id:a-secret").decode()
    monkeypatch.setenv("HOOKLINE_TEST_API_KEY", key)
    keys = {"user": "", "password_file": "", "api_key_env": "HOOKLINE_TEST_API_KEY"}
    async with connect(config_for(elasticsearch_9, tmp_path, **keys)) as client:
        with pytest.raises(Refused, match="401") as refused:
            await client.request("GET", "/_cluster/health")
    # To a request without credentials, or with a scheme that it cannot read, it says "missing authentication".
    assert "unable to authenticate with provided credentials" in str(refused.value)
    assert key not in str(refused.value)


@settings(max_examples=5, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(host_events(), min_size=20, max_size=40))
def test_no_event_can_make_itself_undeliverable(server: Elasticsearch, tmp_path: Path, events: list[HostEvent]) -> None:
    """Whatever numbers, names and paths an event of any kind has, the mapping takes it: no dead letter."""
    config = config_for(server, tmp_path)

    # Of the fields, this one alone is the kernel's clock, and ends far below 64 bits.
    of_our_time = [replace(event, time_ns=event.time_ns % _YEAR_NS) for event in events]

    async def deliver() -> tuple[int, int]:
        async with feeding(config) as feed:
            await feed.events(of_our_time)
        return feed.total("delivered"), feed.total("dead_letter")

    outcome = trio.run(deliver)
    letters = read(tmp_path / "dead.ndjson", lambda sentence, _line: pytest.fail(sentence))
    assert outcome == (len(events), 0), {each.reason for each in letters}


def test_setup_again_changes_nothing(server: Elasticsearch, tmp_path: Path) -> None:
    """Installed a second time, templates are what they were; what the server lacks is said."""
    said: list[str] = []
    before = [server.ask("GET", path) for path in templates.templates(lifecycle=False)]
    assert setup(config_for(server, tmp_path), None, dry_run=False, say=said.append) == 0
    assert [server.ask("GET", path) for path in templates.templates(lifecycle=False)] == before
    assert any("no lifecycle management" in line for line in said)


async def test_panels_can_be_asked(server: Elasticsearch, tmp_path: Path) -> None:
    """The query of every panel of the dashboard runs, finds its events, and makes rows of them."""
    config = config_for(server, tmp_path)
    kinds: list[type[HostEvent]] = [*(probe.event for probe in all_probes().values()), Gap]
    async with feeding(config) as feed:
        await feed.events([full(kind, sequence=number) for number, kind in enumerate(kinds)])
    ids(server, config)  # refreshes
    for panel in kibana.PANELS:
        body = {
            "size": 0,
            "query": {"query_string": {"query": panel.query}},
            "aggs": kibana.aggregations(panel),
        }
        answer = server.ask("POST", f"/logs-hookline.*-{config.namespace}/_search", body)
        assert answer["_shards"]["failed"] == 0, answer
        assert answer["hits"]["total"]["value"] >= 1, (panel.name, answer)


def test_fields_of_panels_are_mapped(server: Elasticsearch, tmp_path: Path) -> None:
    """Every field that a panel or a saved search uses is in the mapping that the server has, and can make rows."""
    path = f"/_component_template/{templates.MAPPINGS}"
    installed = server.ask("GET", path)["component_templates"][0]["component_template"]["template"]["mappings"]
    mapped = dict(properties(installed))
    for panel in kibana.PANELS:
        for field in (*panel.rows, *panel.columns):
            assert mapped[field]["type"] in {"keyword", "long", "ip", "date"}, field
