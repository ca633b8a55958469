# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures in the documents are those of the committed results."""

from __future__ import annotations

import re

import pytest

from bench.document import DOCUMENTS, PARTS, renewed


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
