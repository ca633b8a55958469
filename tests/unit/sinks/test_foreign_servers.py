# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sinks say of a server that is not what they look for."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import trio
from aiokafka.errors import KafkaConnectionError

from sinks.elasticsearch.client import Client
from sinks.elasticsearch.config import ElasticsearchConfig
from sinks.elasticsearch.errors import Refused
from sinks.kafka.producer import reason_of


class _Page(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        page = b"<html>\n<title>Not here</title>\n" + b"<p>long\n" * 200
        self.send_response(404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


async def test_a_page_is_cut() -> None:
    """Of a server that answers with a page, the status and the page's beginning are told, on one line."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        config = ElasticsearchConfig(hosts=(f"http://127.0.0.1:{server.server_port}",))
        try:
            async with Client(config) as client:
                with pytest.raises(Refused) as caught:
                    await client.request("PUT", "/_ilm/policy/x", {})
        finally:
            await trio.to_thread.run_sync(server.shutdown)
    said = str(caught.value)
    assert said.startswith("status 404, <html> <title>Not here</title> <p>long")
    assert len(said) == len("status 404, ") + 100


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError(), "no broker answers: ConnectionError"),
        (TimeoutError("too late"), "no broker answers: too late"),
        (KafkaConnectionError("no route"), "no broker answers: KafkaConnectionError: no route"),
    ],
)
def test_a_broker_that_does_not_answer(error: Exception, words: str) -> None:
    """An error without words of its own is told by its class."""
    assert reason_of(error) == words
