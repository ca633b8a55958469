# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of processes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.enrich.proc import executable
from probes.identity import FileId


@contextmanager
def running(*command: str | Path, passing: int | None = None) -> Iterator[int]:
    """A process of `cat` that lives as long as the context; its id."""
    fds = () if passing is None else (passing,)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b".")
        process.stdin.flush()
        assert process.stdout.read(1) == b"."  # it is executed by now
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize("name", ["program", "program (deleted)"])
@pytest.mark.parametrize("removed", [False, True])
def test_an_executable_has_one_path(name: str, removed: bool, tmp_path: Path) -> None:
    """A path is told as it was when it was executed, whether the file was removed, or is only named as if it were."""
    program = tmp_path / name
    shutil.copy("/bin/cat", program)
    with running(program) as pid:
        expected = FileId.of(program.stat()).inode
        if removed:
            program.unlink()
        found = executable(pid)
    assert found is not None
    assert (found[0], found[1].inode) == (os.fsencode(program), expected)


def test_a_memfd_has_its_name() -> None:
    """What runs from memory is told as records tell it: by its name, without a folder."""
    memory = os.memfd_create("evil")
    os.write(memory, Path("/bin/cat").read_bytes())
    with running(f"/proc/self/fd/{memory}", passing=memory) as pid:
        found = executable(pid)
    os.close(memory)
    assert found is not None
    assert found[0] == b"memfd:evil"


def test_nothing_is_told_of_nobody() -> None:
    """A process that is gone has no executable."""
    assert executable(1 << 23) is None
