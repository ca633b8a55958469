# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding a cgroup where it is mounted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.enrich.cgroups import Hierarchies
from pipeline.enrich.proc import lines_of

ODD = "\x0b\x0c\x1c\x85\u2028\r"
"""Names may hold these; mountinfo shows them as they are."""


@pytest.mark.parametrize("cgroup", [1, 1 << 62 | 1])
def test_mounts_of_odd_names(cgroup: int, tmp_path: Path) -> None:
    """Whatever a user names a mount or a source, it does not stop who looks for a cgroup behind it."""
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(
        os.fsencode(
            f"65 44 0:39 / /media/{ODD} rw,relatime - fuse.x {ODD} rw\n"
            f"40 31 0:37 / /proc rw - cgroup none rw,pids\n"
            f"41 31 0:38 / /proc rw - cgroup2 none rw\n"
        )
    )
    assert not Hierarchies(mounts).candidates(cgroup, os.getpid())


def test_lines_end_where_the_kernel_ends_them(tmp_path: Path) -> None:
    """Only a newline parts two lines, and what is no UTF-8 stays what it is."""
    path = tmp_path / "file"
    path.write_bytes(os.fsencode(f"one{ODD}\ntwo") + b"\xff\n")
    assert lines_of(path) == [f"one{ODD}", "two\udcff", ""]
