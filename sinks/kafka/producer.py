# SPDX-License-Identifier: GPL-2.0-or-later
"""aiokafka's producer, as far as a sink needs it: coroutines of asyncio."""

from __future__ import annotations

import asyncio
import random
import ssl
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    InvalidTopicError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
    RecordTooLargeError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from sinks.kafka.config import KafkaConfig
from sinks.kafka.message import Message
from sinks.protocol import SinkError, SinkUnavailable

if TYPE_CHECKING:
    from aiokafka.producer.message_accumulator import BatchBuilder

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
"""What no retry can mend, unless it was a neighbour in the same request that was too large."""

BEHIND_A_HOLE = (OutOfOrderSequenceNumber,)
"""What follows a refused request of an idempotent producer."""

_STOP_S = 1.0

_BATCH_BYTES = 256 * 1024
"""Of one partition, before compression."""

_OVERHEAD_BYTES = 512
"""Of a message beside its value, at most: key, headers, lengths."""

_AT_ONCE = 500
"""Messages that are packed without a turn for others."""


class Credentials(NamedTuple):
    """What a connection needs beside addresses."""

    tls: ssl.SSLContext | None
    password: str | None


def credentials(config: KafkaConfig) -> Credentials:
    """Read certificates and the password; blocks.

    Raises:
        SinkError: a file cannot be read, or is not what it should be.
    """
    try:
        context = None
        if config.security.endswith("ssl"):
            context = ssl.create_default_context(cafile=config.ca_file or None)
            if config.cert_file:
                context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"ca_file, cert_file and key_file must be PEM files that can be read: {error}") from None
    try:
        password = Path(config.password_file).read_text(encoding="utf-8") if config.password_file else None
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"password_file: {config.password_file} cannot be read: {error}") from None
    return Credentials(context, password.partition("\n")[0] if password is not None else None)


def reason_of(error: BaseException) -> str:
    """A few words for people."""
    match error:
        case UnknownTopicOrPartitionError():
            return "the topic does not exist and the broker does not create it: create it"
        case TopicAuthorizationFailedError() | ClusterAuthorizationFailedError():
            return "the broker does not allow this user to write to the topic: grant it Write and Describe"
        case InvalidTopicError():
            return "the broker refuses the topic's name"
        case AuthenticationFailedError() | SaslAuthenticationFailed():
            return "the broker refuses user or password"
        case SinkUnavailable():
            return str(error)
        case KafkaConnectionError() | KafkaTimeoutError() | RequestTimedOutError():
            return f"no broker answers: {error}"
        case _:
            return f"{type(error).__name__}: {error}"


async def start(config: KafkaConfig) -> AIOKafkaProducer:
    """A producer that every in-sync replica must acknowledge, and that repeats nothing. Raises KafkaError, OSError."""
    secrets = credentials(config)
    producer = AIOKafkaProducer(
        bootstrap_servers=list(config.servers),
        client_id="hookline",
        acks="all",
        enable_idempotence=True,
        compression_type=None if config.compression == "none" else config.compression,
        max_batch_size=min(_BATCH_BYTES, config.max_request_bytes),
        max_request_size=config.max_request_bytes,
        request_timeout_ms=round(config.timeout_s * 1000),
        security_protocol=config.security.upper(),
        ssl_context=secrets.tls,
        sasl_mechanism=config.sasl_mechanism,
        sasl_plain_username=config.user or None,
        sasl_plain_password=secrets.password,
    )
    try:
        await producer.start()
    except BaseException:
        await stop(producer)
        raise
    return producer


async def stop(producer: AIOKafkaProducer) -> None:
    """Let go of all connections; what is still under way has `_STOP_S`."""
    try:
        await asyncio.wait_for(producer.stop(), _STOP_S)
    except (TimeoutError, KafkaError, OSError):
        # stop() waits for acknowledgements first, and given up there it leaves task and connections behind.
        await producer._sender.close()
        await producer.client.close()


class _Parcel(NamedTuple):
    """Messages that the broker takes or refuses together, and their places among those that were given to `send`."""

    builder: BatchBuilder
    places: list[int]


async def send(producer: AIOKafkaProducer, messages: Sequence[Message], max_bytes: int) -> list[BaseException | None]:
    """What became of each message, once all are settled: None is an acknowledgement.

    They go out as whole batches of a partition. One by one, each would cost a future and two turns of the loop.
    """
    outcomes: list[BaseException | None] = [None] * len(messages)
    topics = _Topics(producer)
    parcels: dict[tuple[str, int], list[_Parcel]] = {}
    for place, (topic, key, value, headers) in enumerate(messages):
        if place % _AT_ONCE == 0:
            await asyncio.sleep(0)  # others have a turn
        partitions = await topics.partitions(topic)
        if isinstance(partitions, BaseException):
            outcomes[place] = partitions
        elif len(value) + _OVERHEAD_BYTES > max_bytes:
            outcomes[place] = MessageSizeTooLargeError()
        else:
            waiting = parcels.setdefault((topic, partitions[partition_of(key, len(partitions))]), [])
            if not waiting or waiting[-1].builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                waiting.append(_Parcel(producer.create_batch(), []))
                waiting[-1].builder.append(timestamp=None, key=key, value=value, headers=headers)
            waiting[-1].places.append(place)
    await asyncio.gather(*(_ship(producer, *to, waiting, outcomes) for to, waiting in parcels.items()))
    return outcomes


def partition_of(key: bytes | None, partitions: int) -> int:
    """As librdkafka chooses by default (``consistent_random``): CRC-32 of the key, any for none.

    Java's murmur2 is Python in aiokafka, and took longer there than all else that a message costs.
    """
    return (zlib.crc32(key) if key else random.getrandbits(32)) % partitions


class _Topics:
    """Partitions of each topic, asked for once. After a problem no other is asked for, which would wait as long."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._known: dict[str, list[int] | BaseException] = {}
        self._problem: BaseException | None = None

    async def partitions(self, topic: str) -> list[int] | BaseException:
        if topic not in self._known:
            try:
                self._known[topic] = self._problem or sorted(await self._producer.partitions_for(topic))
            except (KafkaError, OSError) as error:
                self._known[topic] = self._problem = error
        return self._known[topic]


async def _ship(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    parcels: Sequence[_Parcel],
    outcomes: list[BaseException | None],
) -> None:
    """Send `parcels` one after the other, and note what became of them."""
    sent: list[asyncio.Future[object]] = []
    problem: BaseException | None = None
    try:
        for parcel in parcels:
            parcel.builder.close()  # so that nothing waits for further messages
            sent.append(await producer.send_batch(parcel.builder, topic, partition=partition))
    except (KafkaError, OSError) as error:
        problem = error
    finally:
        try:
            await asyncio.wait(sent or [_nothing()])
        finally:
            for future in sent:
                future.cancel()  # where this was cancelled, nobody will ask what became of it
    for number, parcel in enumerate(parcels):
        outcome = sent[number].exception() if number < len(sent) else problem
        for place in parcel.places:
            outcomes[place] = outcome


def _nothing() -> asyncio.Future[object]:
    done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done
