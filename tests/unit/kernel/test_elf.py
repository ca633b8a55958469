# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols of ELF files: the right place, or an error, whatever the bytes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.kernel.elf import Elf, ElfError
from tests.unit.kernel.elf_writer import elf

SYMBOLS = {"first": 0x300, "readline": 0x310, "readline_more": 0x320}
SIZE = 0x400


@contextmanager
def file_of(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("elf")
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def test_this_process() -> None:
    """A function of the C library is where the dynamic linker put it."""
    function = ctypes.cast(ctypes.CDLL(None).getaddrinfo, ctypes.c_void_p).value
    assert function is not None
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _mode, offset, _device, inode, *path = line.split(maxsplit=5)
        start, end = (int(each, 16) for each in span.split("-"))
        if start <= function < end and int(inode):
            fd = os.open(path[0], os.O_RDONLY)
            assert Elf(fd).function("getaddrinfo") == function - start + int(offset, 16)
            os.close(fd)
            return
    pytest.fail("getaddrinfo lies in no file")


@pytest.mark.parametrize("table", ["gnu", "sysv"])
@pytest.mark.parametrize("name", SYMBOLS)
def test_each_kind_of_table(table: str, name: str) -> None:
    """With either hash table, each exported function is found at its offset, and no other name is."""
    with file_of(elf(SYMBOLS, table=table, size=SIZE)) as fd:
        found = Elf(fd)
        assert found.function(name) == SYMBOLS[name]
        assert found.function(name[:-1]) is None


def test_what_is_no_function_is_not_found() -> None:
    """An object and an indirect function of the wanted name are not taken for its code."""
    for info in (1 | 1 << 4, 10 | 1 << 4):
        with file_of(elf(SYMBOLS, info=info, size=SIZE)) as fd:
            assert Elf(fd).function("readline") is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not an ELF file"),
        (b"#!/bin/sh\n" + bytes(100), "not an ELF file"),
        (elf(SYMBOLS, size=SIZE)[:4] + b"\1" + elf(SYMBOLS, size=SIZE)[5:], "not a 64-bit file"),
        (elf(SYMBOLS, size=SIZE)[:100], "shorter than its own tables"),
        (elf(SYMBOLS, table="none", size=SIZE), "no table of dynamic symbols"),
        (elf(SYMBOLS, size=SIZE, flags=4), "outside of the code"),
        (elf({"readline": 0x500}, size=SIZE), "outside of the code"),
        (elf({"readline": 0x3F0}, size=SIZE)[:0x3F0], "shorter than its own tables"),
    ],
    ids=["empty", "script", "32 bits", "short", "no table", "not executable", "beyond the segment", "beyond the end"],
)
def test_a_file_that_cannot_be_used(content: bytes, says: str) -> None:
    """What is no such file, or would lead outside of its code, is an error that says so."""
    with file_of(content) as fd, pytest.raises(ElfError, match=says):
        Elf(fd).function("readline")


@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, 255)), max_size=12), st.sampled_from(["gnu", "sysv"])
)
@example([(64 + 8 + 7, 255)], "gnu")
def test_any_bytes(changes: list[tuple[int, int]], table: str) -> None:
    """Whatever bytes are changed, the answer is an offset inside the file, none, or an `ElfError`, at once."""
    content = bytearray(elf(SYMBOLS, table=table, size=SIZE))
    for at, byte in changes:
        content[at] = byte
    with file_of(bytes(content)) as fd:
        try:
            offset = Elf(fd).function("readline")
        except ElfError:
            return
    assert offset is None or 0 <= offset < SIZE
