# SPDX-License-Identifier: GPL-2.0-or-later
"""The elasticsearch sink as the pipeline sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from sinks.deadletters import DeadLetter, DeadLetters
from sinks.elasticsearch import reply
from sinks.elasticsearch.bulk import Bulk, bulks, kind_of, of_pairs
from sinks.elasticsearch.client import Client
from sinks.elasticsearch.errors import Refused, Unreachable
from sinks.elasticsearch.reply import Outcome
from sinks.elasticsearch.window import Window
from sinks.protocol import SinkUnavailable

if TYPE_CHECKING:
    from sinks.elasticsearch.config import ElasticsearchConfig
    from sinks.protocol import Batch, Sink

_FIRST_PAUSE_S = 0.1
_LAST_PAUSE_S = 5.0
_SLOW_PAUSE_S = 30.0
"""Between two tries where only somebody can mend it: a password, a permission."""

_TOO_LARGE = 413


@dataclasses.dataclass(slots=True)
class Counters:
    """Since the sink was opened."""

    requests: int = 0
    documents: int = 0
    """Created."""

    already_there: int = 0
    """Sent again, and found there: an answer had been lost."""

    retried: int = 0
    """Documents that were sent again."""

    overloads: int = 0
    """Answers that said, for documents or as a whole, that the server has too much to do."""


@contextlib.asynccontextmanager
async def open_sink(config: ElasticsearchConfig) -> AsyncIterator[Sink]:
    """Send to ``config.hosts``. They need not answer yet: a batch waits until they do.

    Raises:
        SinkError: certificates, the password or the API key cannot be read.
    """
    sink = ElasticsearchSink(config, Client(config))
    try:
        yield sink
    finally:
        await sink.disconnect()


class ElasticsearchSink:
    """Made by ``open_sink``."""

    def __init__(self, config: ElasticsearchConfig, client: Client) -> None:
        self._config = config
        self._client = client
        self._window = Window(config.max_requests)
        self._letters = DeadLetters(Path(config.dead_letter_file), config.dead_letter_bytes)
        self._counters = Counters()
        self._batch: Batch | None = None
        self._rest: list[Bulk] = []
        """What of `_batch` is not settled."""

        self._dead: Counter[int] = Counter()
        """Dead letters of `_batch` by kind."""

    async def deliver(self, batch: Batch) -> Mapping[int, int] | None:
        """Return once every document is in its data stream, or is a dead letter.

        Raises:
            SinkUnavailable: some are not, and none was settled in the last round; the same batch, offered again,
                sends just these.
        """
        if batch is not self._batch:
            self._batch = batch
            self._dead = Counter()
            lines = batch.encoded(self._config.schema)
            waiting = bulks(lines, self._config.namespace, max_bytes=self._config.bulk_bytes)
        else:
            waiting = iter(self._rest)
        pause = _FIRST_PAUSE_S
        while True:
            outcomes = await self._round(waiting)
            if self._rest and not any(outcome.is_progress() for outcome in outcomes):
                trouble = next(outcome for outcome in outcomes if outcome.rest)
                raise SinkUnavailable(trouble.problem, pause_s=_SLOW_PAUSE_S if trouble.slow else None)
            if not self._rest:
                break
            await trio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LAST_PAUSE_S)
            waiting = iter(self._rest)
        self._batch = None
        return self._dead or None

    async def _round(self, waiting: Iterator[Bulk]) -> list[Outcome]:
        """Send all that is left, each request once, while those that follow are made."""
        outcomes: list[Outcome] = []
        begun: list[Bulk] = []
        try:
            async with trio.open_nursery() as nursery:
                for bulk in waiting:
                    begun.append(bulk)
                    nursery.start_soon(self._send, bulk, outcomes)
                    await trio.lowlevel.checkpoint()
        except BaseException:
            self._rest = [*begun, *waiting]  # what arrived of it does no harm when it is sent again
            raise
        self._rest = []
        for outcome in outcomes:
            self._rest += outcome.rest
            self._counters.documents += outcome.created
            self._counters.already_there += outcome.already_there
            self._counters.overloads += outcome.overloaded
        self._counters.retried += sum(bulk.documents for bulk in self._rest)
        await self._bury([refused for outcome in outcomes for refused in outcome.refused])
        return outcomes

    async def _send(self, bulk: Bulk, outcomes: list[Outcome]) -> None:
        async with self._window.place():
            started = trio.current_time()
            self._counters.requests += 1
            try:
                outcome = reply.judge(bulk, await self._client.bulk(bulk.body, reply.FILTER))
            except Refused as error:
                outcome = _refused(bulk, error)
            except Unreachable as error:
                outcome = Outcome(rest=[bulk], problem=str(error))
            except reply.Unreadable as error:
                outcome = Outcome(rest=[bulk], problem=f"an answer that cannot be read: {error}")
            self._window.answered(started, overloaded=outcome.overloaded)
        outcomes.append(outcome)

    async def _bury(self, refused: list[tuple[bytes, bytes, str]]) -> None:
        if not refused:
            return
        letters = [
            DeadLetter(f"elasticsearch:{self._config.namespace}", reason, msgspec.Raw(document))
            for _action, document, reason in refused
        ]
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._letters.append, letters)
        except OSError as error:
            self._rest.append(of_pairs([(action, document) for action, document, _reason in refused]))
            raise SinkUnavailable(f"{self._config.dead_letter_file}: {error.strerror}") from None
        self._dead.update(kind_of(action) for action, _document, _reason in refused)

    async def reopen(self) -> None:
        """Read certificates and secrets again, and connect anew.

        Raises:
            SinkError: they cannot be read; the connections stay.
        """
        client = await trio.to_thread.run_sync(Client, self._config)
        await self.disconnect()
        self._client = client

    async def disconnect(self) -> None:
        """Close the connections."""
        await self._client.__aexit__(None, None, None)

    def statistics(self) -> Mapping[str, int]:
        """The fields of ``Counters``, dead letters, bytes sent, and the window of requests at a time."""
        return {
            **dataclasses.asdict(self._counters),
            **self._letters.statistics(),
            "sent_bytes": self._client.sent_bytes,
            "window": self._window.width,
            "window_narrowed": self._window.narrowed,
        }


def _refused(bulk: Bulk, error: Refused) -> Outcome:
    """What an error status of the whole request means for its documents."""
    if error.status == _TOO_LARGE:
        if bulk.documents > 1:
            return Outcome(rest=list(bulk.halves()), problem=str(error), split=True)
        ((action, document),) = bulk.pairs()
        return Outcome(refused=[(action, document, "larger than the server takes")])
    return Outcome(
        rest=[bulk],
        problem=str(error),
        overloaded=error.status in {429, 503},
        slow=error.status < 500 and error.status not in {408, 429},
    )
