# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest's kernel says when something is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.qemu import trouble


@pytest.mark.parametrize(
    "line",
    [
        "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1 check+0x1/0x2",
        "[    1.0] WARNING: kernel/bpf/verifier.c:1 at check+0x1/0x2, CPU#0: init/1",
        "[    1.0] WARNING: at check+0x1/0x2, CPU#1: init/1",
        "[    1.0] BUG: kernel NULL pointer dereference, address: 0",
        "[    1.0] Kernel panic - not syncing: Attempted to kill init!",
    ],
)
def test_trouble(line: str, tmp_path: Path) -> None:
    """Warnings of every kernel are found, those of Linux 6.19 and later too, and told by their line."""
    for name in ("console", "dmesg"):
        (tmp_path / name).write_text(f"[    0.9] fine\n{line}\n")
    (tmp_path / "exit").write_text("0")
    assert line.partition("] ")[2] in trouble(tmp_path)


def test_peace(tmp_path: Path) -> None:
    """A guest that only said that a test program warned of something has no trouble."""
    (tmp_path / "console").write_text("WARNING: something else\n")
    (tmp_path / "exit").write_text("0")
    assert trouble(tmp_path) == ""
