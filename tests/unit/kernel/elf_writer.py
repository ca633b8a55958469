# SPDX-License-Identifier: GPL-2.0-or-later
"""Small ELF files: one segment of everything, and a table of dynamic symbols of either kind."""

from __future__ import annotations

import struct
from collections.abc import Mapping

ADDRESS = 0x40_0000
"""Where the only segment lies in memory; its place in the file is 0."""

_FUNCTION = 2 | 1 << 4
"""STT_FUNC, STB_GLOBAL."""


def elf(
    symbols: Mapping[str, int], *, table: str = "gnu", info: int = _FUNCTION, flags: int = 5, size: int = 0
) -> bytes:
    """A file that exports `symbols` at these offsets in it; `table` is "gnu", "sysv" or "none"."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in symbols)
    entries = [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]
    for name, offset in symbols.items():
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        entries.append(struct.pack("<IBBHQQ", at, info, 0, 1, ADDRESS + offset, 8))
    hashes = _gnu(list(symbols)) if table == "gnu" else _sysv(list(symbols))
    start = 64 + 2 * 56
    symbols_at = start + 5 * 16
    names_at = symbols_at + 24 * len(entries)
    hashes_at = names_at + len(names) + -len(names) % 8
    tags = [(5, names_at), (6, symbols_at), (10, len(names))]
    if table != "none":
        tags.append((0x6FFFFEF5 if table == "gnu" else 4, hashes_at))
    tags += [(0, 0)] * (5 - len(tags))
    dynamic = b"".join(struct.pack("<qQ", tag, value + ADDRESS * (tag not in {0, 10})) for tag, value in tags)
    body = dynamic + b"".join(entries) + names + bytes(-len(names) % 8) + hashes
    size = size or start + len(body)
    header = struct.pack("<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, flags, 0, ADDRESS, ADDRESS, size, size, 4096)
    dynamic_segment = struct.pack("<IIQQQQQQ", 2, 6, start, ADDRESS + start, 0, len(dynamic), len(dynamic), 8)
    return (header + load + dynamic_segment + body).ljust(size, b"\x90")


def _gnu(names: list[str]) -> bytes:
    """One bucket, so that every name is in one chain."""
    values = []
    for name in names:
        value = 5381
        for byte in name.encode():
            value = (value * 33 + byte) & 0xFFFF_FFFF
        values.append(value & ~1)
    values[-1] |= 1
    return struct.pack(f"<4IQI{len(values)}I", 1, 1, 1, 6, 2**64 - 1, 1, *values)


def _sysv(names: list[str]) -> bytes:
    """One bucket, whose chain goes through all symbols."""
    count = len(names) + 1
    return struct.pack(f"<4I{count - 1}I", 1, count, 1, 0, *range(2, count), 0)
