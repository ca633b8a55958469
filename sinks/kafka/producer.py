# SPDX-License-Identifier: GPL-2.0-or-later
"""aiokafka's producer, as far as a sink needs it: coroutines of asyncio."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

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
from sinks.protocol import SinkError, SinkUnavailable

# What they say is said again by us, once and in one line.
_client_log = logging.getLogger("aiokafka")
_client_log.addHandler(logging.NullHandler())
_client_log.propagate = False

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
"""What no retry can mend, unless it was a neighbour in the same request that was too large."""

BEHIND_A_HOLE = (OutOfOrderSequenceNumber,)
"""What follows a refused request of an idempotent producer."""

_STOP_S = 1.0

_BATCH_BYTES = 256 * 1024
"""Of one partition, before compression."""


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
        case ssl.SSLCertVerificationError():
            return f"TLS: the broker's certificate is refused: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
        case KafkaConnectionError() | KafkaTimeoutError() | RequestTimedOutError() | OSError():
            return f"no broker answers: {str(error) or type(error).__name__}"
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
    with _overhearing(config.servers) as heard:
        try:
            await producer.start()
        except BaseException as error:
            await stop(producer)
            if isinstance(error, KafkaConnectionError) and heard:
                raise heard[-1] from error
            raise
    return producer


@contextmanager
def _overhearing(servers: tuple[str, ...]) -> Iterator[list[KafkaError | OSError]]:
    """What the client only logs: why it could not talk to each of `servers`."""
    heard: list[KafkaError | OSError] = []

    def listen(record: logging.LogRecord) -> bool:
        match record.args:
            case (host, port, KafkaError() | OSError() as error) if f"{host}:{port}" in servers:
                heard.append(error)
        return True

    _client_log.addFilter(listen)
    try:
        yield heard
    finally:
        _client_log.removeFilter(listen)


async def stop(producer: AIOKafkaProducer) -> None:
    """Let go of all connections; what is still under way has `_STOP_S`."""
    try:
        await asyncio.wait_for(producer.stop(), _STOP_S)
    except (TimeoutError, KafkaError, OSError):
        # stop() waits for acknowledgements first, and given up there it leaves tasks and connections behind. The
        # sender in turn waits for the answers to what it has sent, which end with the connections.
        await producer.client.close()
        await producer._sender.close()
        await producer.client.close()  # it may have made new ones
