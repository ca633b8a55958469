# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of each document of a ``_bulk`` request, from the server's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from sinks.elasticsearch.bulk import Bulk, of_pairs

FILTER = (
    "errors,items.create.status,items.create.failure_store,items.create.error.type,items.create.error.reason,"
    "items.create.error.caused_by.reason"
)
"""``filter_path``: what of an answer is read."""

_PASSING = frozenset(
    {
        "cluster_block_exception",  # a full disk, an index that is being moved
        "validation_exception",  # the cluster has all the shards that it may have
    }
)
"""Errors that have the status of a bad document and are the server's state."""

_PASSING_STATUS = frozenset({401, 403, 404, 408, 429})
_ALREADY_THERE = 409
_REASON_CHARACTERS = 500


class Unreadable(Exception):
    """An answer that is not one to the request: nothing is known of its documents."""


class _Cause(msgspec.Struct):
    reason: str | None = None


class _Error(msgspec.Struct):
    type: str = "unknown"
    reason: str | None = None
    caused_by: _Cause | None = None

    def words(self) -> str:
        parts = [self.type, self.reason, self.caused_by.reason if self.caused_by else None]
        return ": ".join(part for part in parts if part)[:_REASON_CHARACTERS]


class _Item(msgspec.Struct):
    status: int
    error: _Error | None = None
    failure_store: str = ""


class _Entry(msgspec.Struct):
    create: _Item


class _Reply(msgspec.Struct):
    errors: bool
    items: list[_Entry] = []


@dataclass(slots=True)
class Outcome:
    """Of one request."""

    created: int = 0
    already_there: int = 0
    refused: list[tuple[bytes, bytes, str]] = field(default_factory=list)
    """Action, document, and why the server will never take it."""

    rest: list[Bulk] = field(default_factory=list)
    """What is to be sent again."""

    problem: str = ""
    """Why."""

    overloaded: bool = False
    """Whether the server has too much to do."""

    slow: bool = False
    """Whether only somebody can mend it, so that there is no hurry to try again."""

    split: bool = False
    """Whether what is to be sent again goes in smaller requests."""

    def is_progress(self) -> bool:
        """Whether trying again at once makes sense."""
        return self.split or bool(self.created or self.already_there or self.refused)


def judge(bulk: Bulk, answer: Any) -> Outcome:
    """Read an answer with status 200.

    Raises:
        Unreadable: it does not tell of each document.
    """
    try:
        reply = msgspec.convert(answer, _Reply)
    except msgspec.ValidationError as error:
        raise Unreadable(str(error)) from None
    if len(reply.items) != bulk.documents:
        raise Unreadable(f"it tells of {len(reply.items)} documents, not of {bulk.documents}")
    items = [entry.create for entry in reply.items]
    if not reply.errors and all(item.status == 201 and not item.failure_store for item in items):
        return Outcome(created=len(items))
    return _one_by_one(bulk, items)


def _one_by_one(bulk: Bulk, items: list[_Item]) -> Outcome:
    outcome = Outcome()
    again: list[tuple[bytes, bytes]] = []
    for (action, document), item in zip(bulk.pairs(), items, strict=True):
        error = item.error or _Error("no reason given")
        if item.failure_store == "used":
            outcome.refused.append((action, document, f"in the data stream's failure store: {error.words()}"))
        elif item.status in {200, 201} and item.error is None:
            outcome.created += 1
        elif item.status == _ALREADY_THERE:
            outcome.already_there += 1
        elif is_passing(item.status) or error.type in _PASSING:
            again.append((action, document))
            outcome.problem = f"status {item.status} for a document, {error.words()}"
            outcome.overloaded |= item.status in {429, 503}
            outcome.slow |= item.status in {401, 403, 404}
        else:
            outcome.refused.append((action, document, error.words()))
    if again:
        outcome.rest.append(of_pairs(again))
    return outcome


def is_passing(status: int) -> bool:
    """Whether a refusal with this status says nothing of the document itself."""
    return status >= 500 or status in _PASSING_STATUS
