# SPDX-License-Identifier: GPL-2.0-or-later
"""The ecs schema: nested and typed after the Elastic Common Schema."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gap import Gap
from probes.declared import event_fields
from probes.event import HostEvent
from probes.network.connect import Connect
from probes.network.tcp_session import TcpSession
from probes.process.execve import Execve
from probes.process.fork import Fork
from probes.text import to_bytes
from tests.unit.pipeline.samples import SECOND, host_events, lines, made
from tests.unit.probes import wire

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def told(event: HostEvent, boot_offset: int = 0) -> dict[str, Any]:
    """The event as Elasticsearch reads it."""
    decoded: dict[str, Any] = json.loads(lines([event], "ecs", boot_offset=boot_offset)[0])
    return decoded


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything that is no object."""
    if isinstance(value, dict):
        assert value, f"{path} is an empty object"
        for name, inner in value.items():
            assert "." not in name, f"{path}.{name} is not nested"
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value


@given(host_events())
def test_no_nulls_no_empty_objects(event: HostEvent) -> None:
    """What is not known is not there: no null, no empty object, no empty text outside of lists."""
    for name, value in leaves(told(event)):
        assert value is not None, name
        assert value != "", name


def test_what_is_unknown_is_not_there() -> None:
    """Nothing stands where nothing is known: no "-1", no empty text."""
    found = dict(leaves(told(made(Execve))))
    for name in (
        "user.name",
        "process.executable",
        "process.hash.md5",
        "process.start",
        "process.working_directory",
    ):
        assert name not in found
    assert not {"-1", ""} & {value for value in found.values() if isinstance(value, str)}


@given(host_events())
def test_types(event: HostEvent) -> None:
    """Each declared field has its declared type."""
    found = dict(leaves(told(event)))
    for field in event_fields(type(event)):
        name, kind = field.names.ecs, field.names.ecs_type
        if name not in found or type(event) is Fork:
            continue
        match kind:
            case "long":
                assert type(found[name]) is int
            case "date":
                assert DATE.fullmatch(found[name])
            case "ip":
                for each in found[name] if isinstance(found[name], list) else [found[name]]:
                    ipaddress.ip_address(each)
            case "object":
                assert all(isinstance(each, dict) for each in found[name])
            case "keyword" | "wildcard" if isinstance(found[name], list):
                assert all(isinstance(each, str) for each in found[name])
            case _:
                assert isinstance(found[name], str)


@pytest.mark.parametrize("event", [*wire.EVENTS, Gap])
def test_every_document_can_be_routed(event: type[Any]) -> None:
    """Each event says when it was, what it is, where it goes, and an id that is its own."""
    common: dict[str, Any] = {"flags": 0, "cpu": 3, "sequence": 5, "time_ns": SECOND}
    extra: dict[str, Any] = {"lost_kind": 59, "lost_cpu": 0, "first": 1, "last": 2, "cause": "kernel_ring"}
    made_up = Gap(**common, **extra) if event is Gap else made(event, **common)
    document = told(made_up, boot_offset=1_700_000_000 * SECOND)
    assert document["@timestamp"] == "2023-11-14T22:13:21.000000000Z"
    assert document["ecs"]["version"]
    assert document["event"]["module"] == "hookline"
    assert document["event"]["action"] == event.event_name
    assert document["event"]["dataset"] == document["data_stream"]["dataset"] == f"hookline.{event.dataset}"
    assert document["event"]["category"] == [event.category]
    assert document["event"]["id"].endswith(f"-{event.data_type}-3-5")
    assert document["host"]["name"] == "box"


@given(st.integers(-SECOND, 8_000_000_000 * SECOND))
def test_times_keep_their_nanoseconds(time_ns: int) -> None:
    """A time is UTC to the nanosecond."""
    text = told(made(Execve, time_ns=abs(time_ns)), boot_offset=time_ns - abs(time_ns))["@timestamp"]
    whole, fraction = text.removesuffix("Z").split(".")
    seconds = int((datetime.fromisoformat(whole).replace(tzinfo=UTC)).timestamp())
    assert seconds * SECOND + int(fraction) == time_ns


@given(st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b""))), st.booleans())
def test_arguments(arguments: list[bytes], cut: bool) -> None:
    """Each argument is an element, empty ones too, and is counted; the bytes come back."""
    argv = b"".join(argument + b"\0" for argument in arguments)
    if cut and arguments and arguments[-1]:
        argv = argv[:-1]
    process = told(made(Execve, argv=argv))["process"]
    assert [to_bytes(each) for each in process.get("args", [])] == arguments
    assert process.get("args_count", 0) == len(arguments)


def test_a_command_line_is_its_arguments() -> None:
    """The command line is the arguments with spaces between them and none behind."""
    process = told(made(Execve, argv=b"ls\0-l\0\xff\0"))["process"]
    assert process["command_line"] == "ls -l \uefff"


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (made(Execve), "success"),
        (made(Execve, result=-13), "failure"),
        (made(Connect, result=-115), "success"),
        (made(Connect, result=-111), "failure"),
    ],
)
def test_outcomes(event: HostEvent, outcome: str) -> None:
    """A failure says so; a connection that is under way is none."""
    assert told(event)["event"]["outcome"] == outcome


def test_connections() -> None:
    """Ends, family and transport stand where ECS has them; numbers without a name are told as text."""
    event = told(
        made(
            Connect,
            family=2,
            protocol=6,
            address=bytes([127, 0, 0, 1]),
            port=443,
            source=bytes([192, 0, 2, 1]),
            source_port=9,
        )
    )
    assert event["destination"] == {"ip": "127.0.0.1", "port": 443}
    assert event["source"] == {"ip": "192.0.2.1", "port": 9}
    assert event["network"] == {"type": "ipv4", "transport": "tcp"}
    assert told(made(Connect, family=99, protocol=250))["network"] == {"type": "99", "transport": "250"}


def test_a_fork_is_about_the_child() -> None:
    """The document's process is the child; who forked is its parent, with the id that its own events have."""
    document = told(
        made(Fork, pid=9, tgid=8, start_time=7, child_pid=21, child_tgid=20, child_start_time=19, comm=b"sh")
    )
    process = document["process"]
    assert (process["pid"], process["thread"]["id"], process["entity_id"]) == (20, 21, "b00t-20-19")
    parent = process["parent"]
    assert (parent["pid"], parent["name"], parent["entity_id"]) == (8, "sh", "b00t-8-7")
    assert told(made(Execve, tgid=8, start_time=7))["process"]["entity_id"] == parent["entity_id"]


def test_a_parent_has_name_and_executable() -> None:
    """What is known of the parent stands beside its pid; what is not known does not."""
    parent = {"pid": 4, "name": 'a"b', "executable": "/bin/a"}
    assert told(made(Execve, ppid=4, parent='a"b\0/bin/a'))["process"]["parent"].items() >= parent.items()
    assert not {"name", "executable"} & told(made(Execve, ppid=4))["process"]["parent"].keys()


def test_a_process_and_its_parent_have_ids() -> None:
    """A process's parent id is the id that the parent's events carry."""
    child = told(made(Execve, tgid=5, start_time=50, ppid=4, parent_start_time=40))["process"]
    assert child["parent"]["entity_id"] == told(made(Execve, tgid=4, start_time=40))["process"]["entity_id"]


def test_a_session_has_its_transport() -> None:
    """A filter on tcp finds sessions as it finds connections."""
    [line] = lines([made(TcpSession, family=2)], "ecs")
    assert json.loads(line)["network"] == {"type": "ipv4", "transport": "tcp", "direction": "unknown"}
