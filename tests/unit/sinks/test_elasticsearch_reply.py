# SPDX-License-Identifier: GPL-2.0-or-later
"""What the answers of a server mean. Their shapes are those that the real ones gave."""

from __future__ import annotations

from typing import Any

import pytest

from sinks.elasticsearch.bulk import of_pairs
from sinks.elasticsearch.reply import Outcome, Unreadable, judge

CREATED = {"create": {"status": 201}}


def failed(status: int, error: str, reason: str = "why") -> dict[str, Any]:
    return {"create": {"status": status, "error": {"type": error, "reason": reason}}}


def outcome(*items: dict[str, Any], errors: bool = True) -> Outcome:
    pairs = [(b'{"create":{"_id":"run-59-0-%d"}}' % n, b'{"n":%d}' % n) for n in range(len(items))]
    return judge(of_pairs(pairs), {"errors": errors, "items": list(items)})


def test_all_created() -> None:
    """An answer without errors settles every document."""
    assert outcome(CREATED, CREATED, errors=False) == Outcome(created=2)


def test_one_by_one() -> None:
    """In one answer with status 200, each document has its own end: created, there already, again, never."""
    result = outcome(
        CREATED,
        failed(409, "version_conflict_engine_exception"),
        failed(429, "es_rejected_execution_exception"),
        failed(400, "document_parsing_exception"),
        failed(503, "unavailable_shards_exception"),
    )
    assert (result.created, result.already_there) == (1, 1)
    assert [(document, reason) for _action, document, reason in result.refused] == [
        (b'{"n":3}', "document_parsing_exception: why")
    ]
    (again,) = result.rest
    assert [document for _action, document in again.pairs()] == [b'{"n":2}', b'{"n":4}']
    assert result.overloaded


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, "security_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "validation_exception"),
        (500, "internal_server_error"),
    ],
)
def test_the_servers_state_kills_no_document(status: int, error: str) -> None:
    """What the server's state refuses is sent again, and is no dead letter."""
    result = outcome(failed(status, error))
    assert result.refused == []
    assert [bulk.documents for bulk in result.rest] == [1]
    assert error in result.problem


def test_the_failure_store_is_no_success() -> None:
    """A document that the server put into the failure store is a dead letter, though its status is 201."""
    result = outcome({"create": {"status": 201, "failure_store": "used"}}, errors=False)
    assert result.created == 0
    assert len(result.refused) == 1


@pytest.mark.parametrize(
    "answer",
    [{}, "no", None, {"errors": False, "items": []}, {"errors": False, "items": [{"index": {"status": 201}}] * 2}],
)
def test_an_answer_that_does_not_tell_of_each(answer: Any) -> None:
    """An answer that is cut, of another kind or of too few documents settles nothing."""
    with pytest.raises(Unreadable):
        judge(of_pairs([(b"{}", b"{}")] * 2), answer)
