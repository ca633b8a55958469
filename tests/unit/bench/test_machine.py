# SPDX-License-Identifier: GPL-2.0-or-later
"""Where figures were taken: others at work on the machine, and the commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.machine import busy, commit


def test_others_at_work() -> None:
    """Time in which a CPU waited, for a disk too, or which the hypervisor took, is nobody's work."""
    before = [10, 0, 10, 100, 10, 0, 0, 10]
    assert busy(before, [30, 0, 20, 130, 20, 5, 5, 30]) == pytest.approx(0.4)
    assert busy(before, [10, 0, 10, 200, 10, 0, 0, 10]) == 0


def test_commit(tmp_path: Path) -> None:
    """A checkout in which a file differs is told from its commit, but not for results of this very bench."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")
        done = subprocess.run(["git", "-C", tmp_path, *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert commit(tmp_path) == ""
    result, source = tmp_path / "bench/results/run.json", tmp_path / "source"
    result.parent.mkdir(parents=True)
    for file in (result, source):
        file.write_text("1", encoding="ascii")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    result.write_text("2", encoding="ascii")
    assert commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    source.write_text("2", encoding="ascii")
    assert commit(tmp_path).endswith("-dirty")
