# SPDX-License-Identifier: GPL-2.0-or-later
"""The kafka sink as the pipeline sees it: a producer of asyncio under trio."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio
import trio_asyncio
from aiokafka.errors import KafkaError

from sinks.deadletters import DeadLetter, DeadLetters
from sinks.kafka.message import Message, Messages
from sinks.kafka.packing import send
from sinks.kafka.producer import BEHIND_A_HOLE, TOO_LARGE, credentials, reason_of, start, stop
from sinks.protocol import SinkUnavailable

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from sinks.kafka.config import KafkaConfig
    from sinks.protocol import Batch, Sink

log = structlog.get_logger()

_MACHINE_ID = Path("/etc/machine-id")

_STOP_S = 5.0
"""Longer than the producer takes; a bound all the same."""


@dataclasses.dataclass(slots=True)
class Counters:
    """Since the sink was opened."""

    messages: int = 0
    """Acknowledged by every in-sync replica."""

    retried: int = 0
    """Sent again since no acknowledgement had come: a consumer may see them twice, with one event id."""

    connections: int = 0
    client_errors: int = 0
    """What the client's tasks left to the event loop to report. No event counts as delivered by that."""


@contextlib.asynccontextmanager
async def open_sink(config: KafkaConfig) -> AsyncIterator[Sink]:
    """Produce to ``config.servers``. They need not answer yet: a batch waits until they do.

    Raises:
        SinkError: certificates or the password cannot be read.
    """
    credentials(config)
    async with trio_asyncio.open_loop() as loop:
        sink = KafkaSink(config, Messages(config.topic, config.schema, config.agent_id or _machine_id()))
        # Otherwise it would end the collector, such as for a task that was given up with its producer.
        loop.set_exception_handler(sink.note_client_error)
        try:
            yield sink
        finally:
            await sink.disconnect()


class KafkaSink:
    """Made by ``open_sink``."""

    def __init__(self, config: KafkaConfig, messages: Messages) -> None:
        self._config = config
        self._messages = messages
        self._dead = DeadLetters(Path(config.dead_letter_file), config.dead_letter_bytes)
        self._counters = Counters()
        self._producer: AIOKafkaProducer | None = None
        self._batch: Batch | None = None
        self._rest: list[Message] = []
        """What of `_batch` is not settled."""

        self._refused: Counter[int] = Counter()
        """Dead letters of `_batch` by kind."""

    async def deliver(self, batch: Batch) -> Mapping[int, int] | None:
        """Return once every in-sync replica has every message, or it is a dead letter.

        Raises:
            SinkUnavailable: some are not acknowledged; the same batch, offered again, sends just these.
        """
        if batch is not self._batch:
            self._batch = batch
            self._rest = list(self._messages(batch.encoded(self._config.schema)))
            self._refused = Counter()
        else:
            self._counters.retried += len(self._rest)
        await self._settle(await self._send(self._rest), alone=False)
        while self._rest:  # those that shared a request with one that was too large
            await self._settle(await self._send(self._rest[:1]), alone=True)
        self._batch = None
        return self._refused or None

    async def _send(self, messages: Sequence[Message]) -> list[BaseException | None]:
        producer = await self._connected()
        try:
            with trio.fail_after(3 * self._config.timeout_s):
                return await trio_asyncio.aio_as_trio(send)(producer, messages, self._config.max_request_bytes)  # type: ignore[no-any-return]
        except trio.TooSlowError:
            await self.disconnect()
            raise SinkUnavailable(f"no answer within {3 * self._config.timeout_s:g} s") from None

    async def _settle(self, outcomes: list[BaseException | None], *, alone: bool) -> None:
        """Of the first messages of the rest; leaves those that must be sent again, before the others."""
        again: list[Message] = []
        dead: list[Message] = []
        problem: BaseException | None = None
        for message, outcome in zip(self._rest, outcomes, strict=False):
            if outcome is None:
                self._counters.messages += 1
            elif alone and isinstance(outcome, TOO_LARGE):
                dead.append(message)
            else:
                again.append(message)
                if alone or not isinstance(outcome, (*TOO_LARGE, *BEHIND_A_HOLE)):
                    problem = problem or outcome
        if any(outcome is not None for outcome in outcomes):
            # The sequence numbers may have a hole now: a new producer begins anew.
            await self.disconnect()
        if dead:
            try:
                await trio.to_thread.run_sync(self._dead.append, [_letter(each) for each in dead])
            except OSError as error:
                again += dead
                problem = SinkUnavailable(f"{self._config.dead_letter_file}: {error.strerror}")
            else:
                self._refused.update(int(dict(each.headers)["data_type"]) for each in dead)
        self._rest = again + self._rest[len(outcomes) :]
        if problem is not None:
            raise SinkUnavailable(reason_of(problem))

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            try:
                with trio.fail_after(3 * self._config.timeout_s):
                    self._producer = await trio_asyncio.aio_as_trio(partial(start, self._config))()
            except trio.TooSlowError:
                raise SinkUnavailable("no broker answers") from None
            except (KafkaError, OSError) as error:
                raise SinkUnavailable(reason_of(error)) from None
            self._counters.connections += 1
        return self._producer

    async def disconnect(self) -> None:
        """Let go of the connections; the next batch makes new ones."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + _STOP_S):
                await trio_asyncio.aio_as_trio(stop)(producer)

    async def reopen(self) -> None:
        """Read certificates and the password again, and connect anew.

        Raises:
            SinkError: they cannot be read; the connections stay.
        """
        await trio.to_thread.run_sync(credentials, self._config)
        await self.disconnect()

    def note_client_error(self, _loop: object, context: Mapping[str, object]) -> None:
        """Asyncio's loop reports what no task handled; the first is logged, all are counted."""
        if not self._counters.client_errors:
            log.warning("the kafka client failed", reason=repr(context.get("exception") or context.get("message")))
        self._counters.client_errors += 1

    def statistics(self) -> Mapping[str, int]:
        """The fields of ``Counters``, and those of its dead letters."""
        return {**dataclasses.asdict(self._counters), **self._dead.statistics()}


def _machine_id() -> str:
    try:
        return _MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _letter(message: Message) -> DeadLetter:
    return DeadLetter(
        f"kafka:{message.topic}",
        "the message is larger than the broker or the producer takes",
        msgspec.Raw(message.value),
    )
