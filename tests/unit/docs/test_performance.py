# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures in the documents are those of the committed results."""

from __future__ import annotations

import re

import pytest

from bench.document import DOCUMENTS, PARTS, RESULTS, renewed
from bench.report import read


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_figures(path: object) -> None:
    """`make bench` would write what stands there."""
    from pathlib import Path

    assert isinstance(path, Path)
    text = path.read_text(encoding="utf-8")
    assert renewed(text) == text


def test_every_part_is_shown() -> None:
    """Each bench's figures stand in docs/performance.md."""
    text = DOCUMENTS[1].read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- bench: (\w+) -->", text)) == set(PARTS)


def test_quantiles_are_in_order() -> None:
    """What is published of a program can be: no quantile is shorter than a smaller one, or takes no time."""
    for each in read(RESULTS / "run.json").handlers:
        inside = each.inside
        ordered = (inside.p50, inside.p90, inside.p95, inside.p99, inside.p999, inside.max)
        assert ordered[0] > 0, each.name
        assert list(ordered) == sorted(ordered), each.name
