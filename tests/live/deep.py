# SPDX-License-Identifier: GPL-2.0-or-later
"""Folders whose path is longer than any system call takes, or than the collector keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def deep_folder(start: Path, names: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """A folder `names` deep below `start`: its descriptor and its path. Whatever is in it then goes with it."""
    here = os.open(start, os.O_RDONLY | os.O_DIRECTORY)
    made = 0
    try:
        for name in names:
            os.mkdir(name, dir_fd=here)
            made += 1
            here = _move(here, name)
        yield here, b"/".join([os.fsencode(start), *names])
    finally:
        # Not shutil.rmtree: it calls itself, once for each level.
        for entry in os.listdir(here):
            os.unlink(os.fsencode(entry), dir_fd=here)
        for name in reversed(names[:made]):
            here = _move(here, b"..")
            os.rmdir(name, dir_fd=here)
        os.close(here)


def _move(here: int, name: bytes) -> int:
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
    os.close(here)
    return there


def components(start: Path, length: int, unit: bytes) -> list[bytes]:
    """Names for `deep_folder`, most of them `unit`, so that its path has `length` bytes."""
    left = length - len(os.fsencode(start))
    names = [unit] * (left // (len(unit) + 1))
    left -= sum(len(name) + 1 for name in names)
    if left == 1:
        names[-1] += b"x"
    elif left:
        names.append(b"x" * (left - 1))
    return names


def place(program: Path, folder: int, name: bytes) -> None:
    """Copy an executable into the folder with that descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with open(os.open(name, flags, 0o700, dir_fd=folder), "wb") as file:
        file.write(program.read_bytes())
