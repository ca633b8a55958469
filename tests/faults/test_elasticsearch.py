# SPDX-License-Identifier: GPL-2.0-or-later
"""The elasticsearch sink while its server is killed, frozen, overloaded, wrong or not there. Each ledger closes."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from structlog.testing import capture_logs

from pipeline.setup.elasticsearch import setup
from sinks.deadletters import read
from sinks.elasticsearch import ElasticsearchConfig, replay
from sinks.elasticsearch import sink as sink_module
from sinks.elasticsearch.letters import Replayed
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.feeding import SINK, Feed, config_for, expected, feeding, ids

_LIMIT_S = 60.0


@pytest.fixture(scope="session")
def open_server(elasticsearch_8: Elasticsearch) -> Elasticsearch:
    """Version 8 with the templates."""
    assert setup(config_for(elasticsearch_8, Path("/nowhere")), None, dry_run=False, say=lambda _line: None) == 0
    return elasticsearch_8


@pytest.fixture(scope="session")
def closed_server(elasticsearch_9: Elasticsearch) -> Elasticsearch:
    """Version 9 with the templates."""
    assert setup(config_for(elasticsearch_9, Path("/nowhere")), None, dry_run=False, say=lambda _line: None) == 0
    return elasticsearch_9


async def until_said(logs: list[Any], word: str) -> str:
    """The reason that the log gives for a sink that takes nothing, once it has this word."""
    with trio.fail_after(_LIMIT_S):
        while True:
            reasons = [str(entry["reason"]) for entry in logs if "takes nothing" in entry["event"]]
            if found := [reason for reason in reasons if word in reason]:
                return found[0]
            await trio.sleep(0.01)


async def test_killed_and_started_again(open_server: Elasticsearch, tmp_path: Path) -> None:
    """SIGKILL while events flow, then a restart: every event is there, and once."""
    config = config_for(open_server, tmp_path, timeout_s=5.0)
    async with feeding(config) as feed:
        for _ in range(5):
            await feed.executions(200)
        await feed.until("delivered", 400)
        open_server.server.kill()
        for _ in range(5):
            await feed.executions(200)
        await trio.to_thread.run_sync(open_server.server.start)
    assert feed.total("delivered") == 2_000
    assert ids(open_server, config) == expected(feed)


async def test_frozen(open_server: Elasticsearch, tmp_path: Path) -> None:
    """A server that stands still for longer than the timeout, with requests under way: nothing lost or twice."""
    config = config_for(open_server, tmp_path, timeout_s=1.0)
    with capture_logs() as logs:
        async with feeding(config) as feed:
            await feed.executions(200)
            await feed.until("delivered", 200)
            open_server.server.freeze()
            try:
                await feed.executions(200)
                assert await until_said(logs, "no answer within 1 s")
            finally:
                open_server.server.thaw()
            await feed.until("delivered", 400)
    assert ids(open_server, config) == expected(feed)
    assert [entry["event"] for entry in logs].count("a sink takes events again") >= 1


async def test_a_storm_of_429(closed_server: Elasticsearch, tmp_path: Path) -> None:
    """A server whose write queue is full refuses again and again; the window narrows, and every event arrives once."""
    config = config_for(closed_server, tmp_path, bulk_bytes=65_536, max_requests=64)
    async with trio.open_nursery() as others, feeding(config) as feed:
        # Others write too, or the window alone would never fill the queue.
        others.start_soon(_write_on, closed_server, config)
        with trio.fail_after(_LIMIT_S):
            while not feed.figures().get("overloads"):
                await feed.executions(600)
        await feed.until("delivered", feed.sent)
        figures = feed.figures()
        others.cancel_scope.cancel()
    assert figures["overloads"] > 0
    assert figures["window_narrowed"] > 0
    assert figures["dead_letters"] == 0
    assert ids(closed_server, config) == expected(feed)


async def _write_on(server: Elasticsearch, config: ElasticsearchConfig) -> None:
    other = config_for(server, Path(config.dead_letter_file).parent, bulk_bytes=65_536, max_requests=64)
    async with feeding(other) as feed:
        while True:
            await feed.executions(600)


async def test_one_document_of_a_hundred(open_server: Elasticsearch, tmp_path: Path) -> None:
    """Of 100 documents the mapping refuses one: 99 delivered, one dead letter; mended, a replay delivers it."""
    config = config_for(open_server, tmp_path)
    numeric = {"mappings": {"properties": {"process": {"properties": {"name": {"type": "long"}}}}}}
    wrong = {
        "index_patterns": [f"logs-hookline.*-{config.namespace}"],
        "data_stream": {},
        "priority": 900,
        "composed_of": ["hookline@mappings"],
        "template": numeric,
    }
    path = f"/_index_template/wrong-{config.namespace}"
    open_server.ask("PUT", path, wrong)
    async with feeding(config) as feed:
        await feed.executions(99, comm=b"42")
        await feed.executions(1, comm=b"ls")
    assert (feed.total("delivered"), feed.total("dead_letter")) == (99, 1)
    (letter,) = read(Path(config.dead_letter_file), lambda sentence, _line: pytest.fail(sentence))
    assert "failed to parse field [process.name]" in letter.reason
    assert Path(config.dead_letter_file).stat().st_mode & 0o777 == 0o600
    assert len(ids(open_server, config)) == 99

    assert await replay(config) == Replayed(refused=1)
    open_server.ask("DELETE", path)
    rolled = open_server.ask("POST", f"/logs-hookline.process-{config.namespace}/_rollover")
    assert rolled["rolled_over"] is True, rolled
    assert await replay(config) == Replayed(delivered=1)
    assert ids(open_server, config) == expected(feed)
    assert not Path(config.dead_letter_file).exists()


async def test_wrong_password(closed_server: Elasticsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password is said once, without the password, and tried slowly; mended and reloaded, events arrive."""
    password = tmp_path / "password"
    password.write_text("not-the-password\n")
    monkeypatch.setattr(sink_module, "_SLOW_PAUSE_S", 0.2)
    config = config_for(closed_server, tmp_path, password_file=str(password))
    with capture_logs() as logs:
        async with feeding(config) as feed:
            await feed.executions(10)
            assert await until_said(logs, "401")
            while feed.figures()["requests"] < 4:  # noqa: ASYNC110 - counters tell nobody when they change
                await trio.sleep(0.01)
            assert sum("takes nothing" in entry["event"] for entry in logs) == 1
            password.write_text(closed_server.password)
            await feed.delivery.reload({SINK: config}, patience_s=5)
            await feed.until("delivered", 10)
    assert "not-the-password" not in str(logs)
    assert ids(closed_server, config) == expected(feed)


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def gives_up(config: ElasticsearchConfig, word: str) -> Feed:
    """Deliver to what does not take it for a second; gives the feed after the end, when it is counted as dropped."""
    with capture_logs() as logs:
        async with feeding(config) as feed:
            await feed.executions(10)
            assert await until_said(logs, word)
            started = time.monotonic()
            before = feed.figures()["requests"]
            await trio.sleep(1)
            tries = (feed.figures()["requests"] - before) / (time.monotonic() - started)
            assert tries < 10, f"{tries:.0f} tries a second are a busy loop"
            feed.delivery.end_by(trio.current_time())
    assert feed.total("dropped_shutdown") == 10
    return feed


async def test_a_server_that_accepts_and_never_answers(tmp_path: Path) -> None:
    """A server that accepts and says nothing is given up after the timeout, tried again, and counted at the end."""
    with listener() as sock:
        config = ElasticsearchConfig(
            hosts=(f"http://127.0.0.1:{sock.getsockname()[1]}",),
            timeout_s=0.3,
            when_full="block",
            dead_letter_file=str(tmp_path / "dead"),
        )
        await gives_up(config, "no answer within 0.3 s")


async def test_a_name_that_does_not_exist(tmp_path: Path) -> None:
    """A host that no name server knows: said, no busy loop, counted."""
    config = ElasticsearchConfig(
        hosts=("http://hookline.invalid:9200",), when_full="block", dead_letter_file=str(tmp_path / "dead")
    )
    await gives_up(config, "")


async def test_an_expired_certificate(tmp_path: Path) -> None:
    """A server whose certificate has expired gets no event; the log says that it has."""
    authority = trustme.CA()
    expired = authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    expired.configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")

        async def refuse(stream: trio.SSLStream[trio.SocketStream]) -> None:
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError:
                return
            raise AssertionError("the client accepted an expired certificate")

        nursery.start_soon(trio.serve_listeners, refuse, listeners)
        transport = listeners[0].transport_listener
        assert isinstance(transport, trio.SocketListener)
        port = transport.socket.getsockname()[1]
        config = ElasticsearchConfig(
            hosts=(f"https://127.0.0.1:{port}",),
            ca_file=str(tmp_path / "ca.pem"),
            when_full="block",
            dead_letter_file=str(tmp_path / "dead"),
        )
        await gives_up(config, "certificate has expired")
        nursery.cancel_scope.cancel()
