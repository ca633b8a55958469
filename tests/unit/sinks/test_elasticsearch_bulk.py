# SPDX-License-Identifier: GPL-2.0-or-later
"""Bodies of bulk requests from lines that the real encoder made."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.event import HostEvent
from probes.process.execve import Execve
from sinks.elasticsearch import bulk
from sinks.elasticsearch.bulk import bulks, kind_of
from tests.unit.pipeline.samples import host_events, lines, made

LARGE = 1 << 30


def encoded(events: list[HostEvent]) -> bytes:
    return b"".join(line + b"\n" for line in lines(events, "ecs"))


def documents(body: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    every = [json.loads(line) for line in body.splitlines()]
    return list(zip(every[::2], every[1::2], strict=True))


@given(st.lists(host_events(), min_size=1, max_size=5))
def test_every_document_is_created_under_its_id(events: list[HostEvent]) -> None:
    """Whatever the names of a process are, its document goes to its dataset's stream, under its id, unchanged."""
    raw = encoded(events)
    (made_bulk,) = bulks(raw, "3.lab", max_bytes=LARGE)
    assert made_bulk.documents == len(events)
    for line, (action, document) in zip(raw.splitlines(), documents(made_bulk.body), strict=True):
        original = json.loads(line)
        original["data_stream"]["namespace"] = "3.lab"
        assert document == original
        index = f"logs-{original['event']['dataset']}-3.lab"
        assert action == {"create": {"_index": index, "_id": original["event"]["id"]}}


@given(host_events())
def test_the_fast_way_is_taken(event: HostEvent) -> None:
    """No line of the encoder needs to be parsed: the beginning that is looked for is that of each."""
    assert bulk._beginning(encoded([event])) is not None


def test_a_line_with_another_beginning() -> None:
    """A line whose fields stand in another order, of an older spool say, is sent as it is, at its place."""
    line = json.dumps({"event": {"id": "r-59-0-7"}, "data_stream": {"dataset": "hookline.process"}}).encode()
    before, after = (encoded([made(Execve, sequence=number)]) for number in (1, 2))
    (made_bulk,) = bulks(before + line + b"\n" + after, "default", max_bytes=LARGE)
    _first, (action, document), _last = made_bulk.pairs()
    assert made_bulk.documents == 3
    assert document == line
    assert json.loads(action) == {"create": {"_index": "logs-hookline.process-default", "_id": "r-59-0-7"}}
    assert kind_of(action) == 59


def test_a_large_batch_is_several_requests() -> None:
    """Parts hold all documents once and in order, none is larger than allowed but for one document that alone is."""
    events: list[HostEvent] = [made(Execve, sequence=n, argv=b"x" * (40_000 if n == 3 else 10)) for n in range(20)]
    parts = [*bulks(encoded(events), "default", max_bytes=8_000)]
    ids = [action["create"]["_id"] for part in parts for action, _document in documents(part.body)]
    assert [int(each.rpartition("-")[2]) for each in ids] == list(range(20))
    assert [part.documents for part in parts if len(part.body) > 8_000] == [1]
    assert sum(part.documents for part in parts) == 20


def test_requests_are_made_one_by_one() -> None:
    """The first request is there before the last line has been looked at, so that it is under way meanwhile."""
    lines = encoded([made(Execve, sequence=n, argv=b"x" * 1_000) for n in range(20)])
    requests = bulks(lines + b"no JSON\n", "default", max_bytes=8_000)
    assert next(requests).documents < 20
    with pytest.raises(msgspec.DecodeError):
        list(requests)


def test_halves() -> None:
    """A request that the server finds too large becomes two with the same documents."""
    (whole,) = bulks(encoded([made(Execve, sequence=n) for n in range(5)]), "default", max_bytes=LARGE)
    first, second = whole.halves()
    assert (first.documents, second.documents) == (2, 3)
    assert first.body + second.body == whole.body


def test_no_lines() -> None:
    """No lines are no request."""
    assert [*bulks(b"", "default", max_bytes=LARGE)] == []
