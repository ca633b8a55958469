# SPDX-License-Identifier: GPL-2.0-or-later
"""Every cache says how it does, and is bounded by a key of the configuration."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.config import Config
from pipeline.stages import Pipeline, new_ledger
from probes.text import Remembered
from tests.unit.pipeline.samples import HOST, RUN

COUNTED = {"process_tree", "users", "containers", "hashes"}
"""Caches of events' parts; of texts hits are not counted."""

NO_CACHE = {"socket_owners", "watch", "spool", "sink_console"}
"""Parts that keep nothing, or queues, whose bounds have tests of their own."""


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(Config(), new_ledger(), identity=RUN, host=HOST, boot_offset=lambda: 0, live=False)


def test_every_cache_has_its_figures(pipeline: Pipeline) -> None:
    """Each part that the metrics tell of is a cache with hits, misses, size and evictions, or known to be none."""
    parts = pipeline.statistics()
    assert parts.keys() - NO_CACHE == COUNTED | {"texts"}
    for name in COUNTED:
        assert parts[name].keys() >= {"size", "hits", "misses", "evictions"}, name
    assert parts["texts"].keys() >= {"size", "misses", "evictions"}


def test_the_bound_of_remembered_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more texts of a kind are remembered than configured; which were forgotten is counted; no answer changes."""
    monkeypatch.setattr(Remembered, "most", Remembered.most)
    few = msgspec.structs.replace(Config(), pipeline=msgspec.structs.replace(Config().pipeline, remembered_texts=16))
    Pipeline(few, new_ledger(), identity=RUN, host=HOST, boot_offset=lambda: 0, live=False)
    texts: Remembered[bytes, str] = Remembered(lambda key: key.decode("ascii"))
    before = Remembered.statistics()
    for number in [*range(40), *range(40)]:
        assert texts[b"%d" % number] == str(number)
        assert len(texts) <= 16
    after = Remembered.statistics()
    assert (texts.misses, texts.evictions) == (80, 64)
    assert after["evictions"] - before["evictions"] >= 64
    caches = after["caches"]
    del texts
    assert Remembered.statistics()["caches"] == caches - 1
