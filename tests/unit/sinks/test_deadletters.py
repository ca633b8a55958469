# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of dead letters: private, bounded, and read back byte for byte."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from sinks.deadletters import DeadLetter, DeadLetters, read
from sinks.elasticsearch import ElasticsearchConfig, replay
from sinks.elasticsearch.letters import Replayed


def letter(number: int, size: int = 0) -> DeadLetter:
    return DeadLetter("es", f"reason {number}", msgspec.Raw(b'{"n": %d,  "pad":"%s"}' % (number, b"x" * size)))


def found_in(path: Path) -> list[DeadLetter]:
    """All letters; there must be nothing else."""
    damaged: list[str] = []
    found = list(read(path, lambda sentence, _line: damaged.append(sentence)))
    assert not damaged
    return found


def test_letters_come_back(tmp_path: Path) -> None:
    """What was appended is read in order, the event's bytes as they were, over several openings."""
    path = tmp_path / "dead" / "letters.ndjson"
    for start in (0, 2):
        DeadLetters(path, 1 << 20).append([letter(start), letter(start + 1)])
    found = found_in(path)
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
    kept = [each.reason for each in found_in(path)]
    assert kept == [f"reason {number}" for number in range(100 - len(kept), 100)]
    assert letters.statistics() == {"dead_letters": 100, "dead_letters_overwritten": 100 - len(kept)}
    assert len(kept) < 25


def test_no_link_is_followed(tmp_path: Path) -> None:
    """A symbolic link in the file's place is refused: it could point anywhere."""
    (tmp_path / "letters").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        DeadLetters(tmp_path / "letters", 100).append([letter(1)])


@pytest.mark.parametrize("torn", [b"{half a li", b'{"sink":"\xff"'])
def test_a_line_that_is_no_letter(tmp_path: Path, torn: bytes) -> None:
    """A line that a crash left unfinished is told by its number, and costs neither those before nor those after it."""
    path = tmp_path / "letters"
    DeadLetters(path, 1000).append([letter(1)])
    path.write_bytes(path.read_bytes() + torn)
    DeadLetters(path, 1000).append([letter(2)])
    damaged: list[tuple[str, bytes]] = []
    found = [each.reason for each in read(path, lambda *told: damaged.append(told))]
    assert found == ["reason 1", "reason 2"]
    ((sentence, line),) = damaged
    assert sentence.startswith(f"{path}: line 2 is no dead letter")
    assert line == torn + b"\n"


async def test_a_replay_sets_damaged_lines_aside(tmp_path: Path) -> None:
    """Lines that hold no document are kept beside the file and counted: they hold up no later replay."""
    path = tmp_path / "letters"
    DeadLetters(path, 1000).append([letter(1)])
    no_document = path.read_bytes()
    path.write_bytes(b"{half a li\n" + no_document)
    config = ElasticsearchConfig(hosts=("http://127.0.0.1:9",), dead_letter_file=str(path))
    assert await replay(config) == Replayed(damaged=2)
    aside = tmp_path / "letters.damaged"
    assert sorted(tmp_path.iterdir()) == [aside]
    assert sorted(aside.read_bytes().splitlines()) == sorted([b"{half a li", no_document.rstrip()])
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert await replay(config) == Replayed()
