# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of dead letters: private, bounded, and read back byte for byte."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from sinks.deadletters import DeadLetter, DeadLetters, read


def letter(number: int, size: int = 0) -> DeadLetter:
    return DeadLetter("es", f"reason {number}", msgspec.Raw(b'{"n": %d,  "pad":"%s"}' % (number, b"x" * size)))


def test_letters_come_back(tmp_path: Path) -> None:
    """What was appended is read in order, the event's bytes as they were, over several openings."""
    path = tmp_path / "dead" / "letters.ndjson"
    for start in (0, 2):
        DeadLetters(path, 1 << 20).append([letter(start), letter(start + 1)])
    found = list(read(path))
    assert [each.reason for each in found] == [f"reason {number}" for number in range(4)]
    assert [bytes(each.event) for each in found] == [bytes(letter(number).event) for number in range(4)]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The file is private whatever the umask."""
    before = os.umask(0)
    try:
        DeadLetters(tmp_path / "letters", 1 << 20).append([letter(1)])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "letters").stat().st_mode) == 0o600


def test_it_is_bounded(tmp_path: Path) -> None:
    """Two files at most, neither much longer than the bound; the newest letters are there, the others counted."""
    path = tmp_path / "letters"
    letters = DeadLetters(path, 10_000)
    for number in range(100):
        letters.append([letter(number, 1000)])
    assert sorted(tmp_path.iterdir()) == [path, tmp_path / "letters.1"]
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < 25_000
    kept = [each.reason for each in read(path)]
    assert kept == [f"reason {number}" for number in range(100 - len(kept), 100)]
    assert letters.statistics() == {"dead_letters": 100, "dead_letters_overwritten": 100 - len(kept)}
    assert len(kept) < 25


def test_no_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link in the file's place is refused: it could point anywhere."""
    (tmp_path / "letters").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        DeadLetters(tmp_path / "letters", 100).append([letter(1)])


def test_a_line_that_is_no_letter(tmp_path: Path) -> None:
    """A damaged file is an error that names the line."""
    path = tmp_path / "letters"
    DeadLetters(path, 1000).append([letter(1)])
    path.write_bytes(path.read_bytes() + b"{half a li")
    with pytest.raises(msgspec.DecodeError, match="line 2 is no dead letter"):
        list(read(path))
