# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a function of an ELF file begins: its dynamic symbols, found as the dynamic linker finds them.

Whoever can write a file in a container chooses every byte of it. So nothing is read but what a look-up needs, a few
hundred bytes through pread(2); every size and every chain has a bound; and what does not add up is an `ElfError`.
Section headers are not used: a stripped file need not have them.
"""

from __future__ import annotations

import os
import struct
from typing import NamedTuple

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")
"""Elf64_Ehdr up to e_phnum: magic, class, data, type, machine, version, entry, phoff, shoff, flags, ehsize, ..."""

_SEGMENT = struct.Struct("<IIQQQQQQ")
"""Elf64_Phdr: type, flags, offset, vaddr, paddr, filesz, memsz, align."""

_DYNAMIC = struct.Struct("<qQ")
"""Elf64_Dyn: tag, value."""

_SYMBOL = struct.Struct("<IBBHQQ")
"""Elf64_Sym: name, info, other, section, value, size."""

_X86_64 = 62
_LOAD, _DYNAMIC_SEGMENT, _EXECUTABLE = 1, 2, 1
"""PT_LOAD, PT_DYNAMIC, PF_X."""

_HASH, _STRTAB, _SYMTAB, _GNU_HASH = 4, 5, 6, 0x6FFFFEF5
"""DT_HASH and its neighbours."""

_FUNCTION = 2
"""STT_FUNC. An indirect function (STT_GNU_IFUNC) names a resolver instead of the code."""

_MOST_SEGMENTS, _MOST_DYNAMIC = 64, 256
_LONGEST_CHAIN = 4096
"""Symbols that are looked at for one name."""


class ElfError(Exception):
    """A file is no ELF file for x86-64, or contradicts its own format."""


class _Segment(NamedTuple):
    kind: int
    flags: int
    offset: int
    address: int
    size: int
    """bytes in the file"""


class Elf:
    """An open file. Reading changes no position; the file may be rewritten meanwhile."""

    def __init__(self, fd: int) -> None:
        """Raises ElfError, and OSError where the file cannot be read."""
        self._fd = fd
        header = os.pread(fd, _HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(b"\x7fELF"):
            raise ElfError("not an ELF file")
        _magic, size, order, _type, machine, _version, _entry, at, _sections, _flags, _length, each, count = (
            _HEADER.unpack(header)
        )
        if (size, order, machine) != (2, 1, _X86_64):
            raise ElfError("not a 64-bit file for x86-64")
        if each != _SEGMENT.size or count > _MOST_SEGMENTS:
            raise ElfError("odd program headers")
        raw = self._pread(at, each * count)
        segments = [
            _Segment(kind, flags, where, address, length)
            for kind, flags, where, address, _p, length, _m, _a in _SEGMENT.iter_unpack(raw)
        ]
        self._loaded = [each for each in segments if each.kind == _LOAD]
        self._tables = self._dynamic(segments)

    def function(self, name: str) -> int | None:
        """The offset in the file of the first instruction of an exported function; None: there is none such.

        Raises:
            ElfError: the tables lead nowhere, or the function lies outside what the file has of code.
        """
        wanted = name.encode("ascii")
        if _GNU_HASH in self._tables:
            candidates = self._gnu_chain(wanted)
        elif _HASH in self._tables:
            candidates = self._chain(wanted)
        else:
            raise ElfError("no table of dynamic symbols")
        for index in candidates:
            name_at, info, _other, section, value, _size = self._symbol(index)
            if section and info & 15 == _FUNCTION and self._has_name(name_at, wanted):
                return self._code_at(value)
        return None

    def _dynamic(self, segments: list[_Segment]) -> dict[int, int]:
        for segment in segments:
            if segment.kind == _DYNAMIC_SEGMENT:
                size = min(segment.size, _MOST_DYNAMIC * _DYNAMIC.size)
                raw = self._pread(segment.offset, size - size % _DYNAMIC.size)
                return {
                    tag: value
                    for tag, value in _DYNAMIC.iter_unpack(raw)
                    if tag in {_HASH, _GNU_HASH, _STRTAB, _SYMTAB}
                }
        return {}

    def _pread(self, offset: int, size: int) -> bytes:
        # An offset above what pread(2) takes is an error of Python's, not of the kernel's.
        raw = os.pread(self._fd, size, offset) if offset < 1 << 62 else b""
        if len(raw) < size:
            raise ElfError("shorter than its own tables")
        return raw

    def _at(self, address: int, size: int) -> bytes:
        """`size` bytes at a virtual address."""
        for segment in self._loaded:
            if segment.address <= address and address + size <= segment.address + segment.size:
                return self._pread(segment.offset + address - segment.address, size)
        raise ElfError("a table lies outside of every segment")

    def _words(self, address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self._at(address, 4 * count))

    def _symbol(self, index: int) -> tuple[int, ...]:
        return _SYMBOL.unpack(self._at(self._table(_SYMTAB) + index * _SYMBOL.size, _SYMBOL.size))

    def _table(self, tag: int) -> int:
        if tag not in self._tables:
            raise ElfError("no table of dynamic symbols")
        return self._tables[tag]

    def _has_name(self, at: int, wanted: bytes) -> bool:
        return self._at(self._table(_STRTAB) + at, len(wanted) + 1) == wanted + b"\0"

    def _gnu_chain(self, name: bytes) -> list[int]:
        """The symbols that may have that name, by DT_GNU_HASH."""
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFF_FFFF
        table = self._tables[_GNU_HASH]
        buckets, first, bloom, _shift = self._words(table, 4)
        if not buckets:
            return []
        bucket_at = table + 16 + 8 * bloom
        (index,) = self._words(bucket_at + 4 * (value % buckets), 1)
        found: list[int] = []
        if index < first:
            return found
        for symbol in range(index, index + _LONGEST_CHAIN):
            (here,) = self._words(bucket_at + 4 * (buckets + symbol - first), 1)
            if here | 1 == value | 1:
                found.append(symbol)
            if here & 1:
                return found
        raise ElfError("an endless table of symbols")

    def _chain(self, name: bytes) -> list[int]:
        """The symbols that may have that name, by DT_HASH."""
        value = 0
        for byte in name:
            value = (value << 4) + byte
            high = value & 0xF000_0000
            value = (value ^ high >> 24) & ~high
        table = self._tables[_HASH]
        buckets, symbols = self._words(table, 2)
        if not buckets:
            return []
        (index,) = self._words(table + 8 + 4 * (value % buckets), 1)
        found: list[int] = []
        while index:
            if index >= symbols or len(found) == _LONGEST_CHAIN:
                raise ElfError("an endless table of symbols")
            found.append(index)
            (index,) = self._words(table + 8 + 4 * (buckets + index), 1)
        return found

    def _code_at(self, address: int) -> int:
        for segment in self._loaded:
            if segment.flags & _EXECUTABLE and segment.address <= address < segment.address + segment.size:
                offset = segment.offset + address - segment.address
                self._pread(offset, 1)
                return offset
        raise ElfError("a function outside of the code")
