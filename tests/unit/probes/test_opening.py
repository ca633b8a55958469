# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening files that others may have put there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from probes import opening


def test_a_file_that_goes_away_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a network's file system opens a file and then knows nothing of it, nothing stays open."""
    path = tmp_path / "file"
    path.touch()
    asked: list[int] = []
    fstat = os.fstat

    def gone_at_last(fd: int) -> os.stat_result:
        asked.append(fd)
        if len(asked) == 2:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(fd)

    monkeypatch.setattr(os, "fstat", gone_at_last)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=r"[Ss]tale"):
        opening.readable(os.open(path, os.O_PATH))
    assert os.listdir("/proc/self/fd") == before
