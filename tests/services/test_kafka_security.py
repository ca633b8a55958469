# SPDX-License-Identifier: GPL-2.0-or-later
"""The kafka sink against listeners with TLS, client certificates, passwords and an authorizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from pipeline.spooled import Spooled
from sinks.kafka import KafkaConfig, open_sink
from sinks.protocol import SinkUnavailable
from tests.faults.flow import flowing
from tests.servers.kafka import Kafka
from tests.services import topics
from tests.services.test_kafka import batch, event, numbers

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


def waiting() -> Spooled:
    return batch(*(event(number) for number in range(20)))


@pytest.fixture
def topic(kafka: Kafka) -> str:
    return topics.create(kafka.address, topics.fresh_name())


@pytest.fixture
def tls(kafka: Kafka, topic: str, tmp_path: Path) -> dict[str, Any]:
    """What a sink with a client certificate is configured with."""
    return {
        "servers": (kafka.tls_address,),
        "topic": topic,
        "timeout_s": 3.0,
        "security": "ssl",
        "ca_file": str(kafka.tls / "ca.pem"),
        "cert_file": str(kafka.tls / "client.pem"),
        "key_file": str(kafka.tls / "client.key"),
        "dead_letter_file": str(tmp_path / "dead"),
    }


@pytest.fixture
def sasl(kafka: Kafka, tls: dict[str, Any]) -> dict[str, Any]:
    """What a sink with a password is configured with."""
    return {
        **tls,
        "servers": (kafka.sasl_address,),
        "security": "sasl_ssl",
        "cert_file": "",
        "key_file": "",
        "user": "hookline",
        "password_file": str(kafka.password_file("hookline")),
    }


async def test_client_certificate(kafka: Kafka, topic: str, tls: dict[str, Any]) -> None:
    """Over TLS, with a certificate of its own, the sink delivers."""
    async with open_sink(KafkaConfig(**tls)) as sink:
        assert not await sink.deliver(waiting())
    assert numbers(kafka, topic) == list(range(20))


async def test_no_client_certificate(kafka: Kafka, tls: dict[str, Any]) -> None:
    """A broker that asks for a certificate takes nothing from who has none."""
    async with open_sink(KafkaConfig(**{**tls, "cert_file": "", "key_file": ""})) as sink:
        with pytest.raises(SinkUnavailable):
            await sink.deliver(waiting())
        assert sink.statistics()["messages"] == 0


@pytest.mark.parametrize("listener", ["tls", "sasl"])
async def test_an_authority_that_is_not_trusted(
    request: pytest.FixtureRequest, topic: str, kafka: Kafka, listener: str, tmp_path: Path
) -> None:
    """A broker whose certificate another authority made gets nothing, no password either; the reason says so."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    settings = {**request.getfixturevalue(listener), "ca_file": str(tmp_path / "other.pem")}
    async with open_sink(KafkaConfig(**settings)) as sink:
        with pytest.raises(SinkUnavailable, match=r"certificate is refused: .*unable to get local issuer certificate"):
            await sink.deliver(waiting())
    assert numbers(kafka, topic) == []


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_passwords(kafka: Kafka, topic: str, sasl: dict[str, Any], mechanism: str) -> None:
    """With user and password, by each mechanism, the sink delivers."""
    async with open_sink(KafkaConfig(**sasl, sasl_mechanism=mechanism)) as sink:  # type: ignore[arg-type]
        assert not await sink.deliver(waiting())
    assert numbers(kafka, topic) == list(range(20))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password(kafka: Kafka, topic: str, sasl: dict[str, Any], mechanism: str, tmp_path: Path) -> None:
    """A wrong password is said, without the password; the right one, after a reload, delivers the same batch once."""
    password = tmp_path / "password"
    password.write_text("not-the-password\n")
    config = KafkaConfig(**{**sasl, "password_file": str(password)}, sasl_mechanism=mechanism)  # type: ignore[arg-type]
    async with open_sink(config) as sink:
        same = waiting()
        with pytest.raises(SinkUnavailable, match="refuses user or password") as refused:
            await sink.deliver(same)
        assert "not-the-password" not in str(refused.value)
        password.write_bytes(kafka.password_file("hookline").read_bytes())
        await sink.reopen()
        assert not await sink.deliver(same)
    assert numbers(kafka, topic) == list(range(20))


async def test_a_user_who_may_not_write(kafka: Kafka, topic: str, sasl: dict[str, Any], tmp_path: Path) -> None:
    """A user without rights to the topic: said once, with the remedy; counted; with other rights all arrive, once."""
    stranger = {**sasl, "user": "stranger", "password_file": str(kafka.password_file("stranger"))}
    refused, allowed = (KafkaConfig(**keys, when_full="spool") for keys in (stranger, sasl))
    with capture_logs() as logs:
        async with flowing({"kafka": refused}, tmp_path) as flow:
            await flow.offer(3, pause_s=0.5)
            account = flow.account("kafka")
            assert (account.offered, account.delivered, account.in_flight()) == (300, 0, 300)
            await flow.delivery.reload({"kafka": allowed}, patience_s=0.1)
            await flow.until_delivered("kafka", 300)
    reasons = [entry["reason"] for entry in logs if entry["event"].startswith("a sink takes nothing")]
    assert reasons == ["the broker does not allow this user to write to the topic: grant it Write and Describe"]
    received = [each.value for each in topics.read_all(kafka.address, topic)]
    assert len(received) == len(set(received)) == 300
