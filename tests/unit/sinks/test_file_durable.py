# SPDX-License-Identifier: GPL-2.0-or-later
"""Pieces are written whole and in order, however little the system takes at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.file.durable import write_all


@given(pieces=st.lists(st.binary(max_size=20), max_size=8), most=st.integers(1, 50))
def test_short_writes(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], most: int) -> None:
    """Where a call takes but a part, also the part of a piece, the next goes on from there."""
    path = tmp_path_factory.mktemp("durable") / "file"

    def short(fd: int, buffers: Sequence[memoryview]) -> int:
        return os.write(fd, b"".join(buffers)[:most])

    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sinks.file.durable.os.writev", short)
        write_all(fd, *pieces)
    os.close(fd)
    assert path.read_bytes() == b"".join(pieces)


def test_more_pieces_than_a_call_takes(tmp_path: Path) -> None:
    """More pieces than one writev(2) takes are written in several."""
    pieces = [b"%d\n" % number for number in range(2500)]
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(fd, *pieces)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_large_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is given more than 1 MiB: a larger piece goes in parts, small ones go together."""
    sizes: list[int] = []
    real = os.writev

    def noting(fd: int, buffers: Sequence[memoryview]) -> int:
        sizes.append(sum(map(len, buffers)))
        return real(fd, buffers)

    monkeypatch.setattr("sinks.file.durable.os.writev", noting)
    pieces = [b"a" * 600_000, b"b" * 400_000, b"c" * 2_000_000]
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(fd, *pieces)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
    assert sizes == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]
