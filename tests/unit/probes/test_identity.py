# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file it is, by each way to ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from probes.identity import FileId


@pytest.mark.parametrize("size", [0, 1, 5 << 30])
def test_without_asking_a_server(tmp_path: Path, size: int) -> None:
    """What the kernel knows of a local file is what stat(2) says of it, by a link of /proc too."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(size)
        os.utime(path, ns=(1, 1_234_567_890_123_456_789))
        expected = FileId.of(path.stat())
        assert FileId.at(os.fsencode(path)) == FileId.at(b"/proc/self/fd/%d" % file.fileno()) == expected
        assert expected.is_same(FileId.at(os.fsencode(path)))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It fails as stat(2) does."""
    with pytest.raises(FileNotFoundError):
        FileId.at(os.fsencode(tmp_path / "absent"))
