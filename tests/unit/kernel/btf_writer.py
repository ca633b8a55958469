# SPDX-License-Identifier: GPL-2.0-or-later
"""A tiny BTF writer, and a small kernel written with it that has one of each thing the reader must know."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from probes.kernel.btf_index import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADER_SIZE = 24
LONG_HEADER_SIZE = 32


class BtfWriter:
    """Each method adds a type and returns its id; ``bytes`` ends the file."""

    def __init__(self) -> None:
        self._types = bytearray()
        self._names = bytearray(b"\0")
        self._count = 0

    def raw(self, kind: int, name: str, value: int, rest: Sequence[int] = (), entries: int = 0, flag: int = 0) -> int:
        """A type from its parts; ``rest`` are the words after the first three."""
        info = entries | kind << 24 | flag << 31
        self._types += struct.pack(f"<{3 + len(rest)}I", self.name(name), info, value, *rest)
        self._count += 1
        return self._count

    def name(self, text: str) -> int:
        at = self._names.find(b"\0%b\0" % text.encode()) + 1 if text else 0
        if text and not at:
            at = len(self._names)
            self._names += text.encode() + b"\0"
        return at

    @property
    def next_id(self) -> int:
        return self._count + 1

    def integer(self, name: str, size: int, *, signed: bool = False) -> int:
        return self.raw(Kind.INT, name, size, [signed << 24 | size * 8])

    def to(self, kind: Kind, target: int, name: str = "") -> int:
        """A pointer, typedef or qualifier of another type."""
        return self.raw(kind, name, target)

    def array(self, of: int, length: int, index: int) -> int:
        return self.raw(Kind.ARRAY, "", 0, [of, index, length])

    def struct(
        self,
        name: str,
        size: int,
        members: Sequence[tuple[str, int, int]],
        bitfields: Mapping[str, int] | None = None,
        kind: Kind = Kind.STRUCT,
    ) -> int:
        """``members`` are (name, type, offset in bits); ``bitfields`` gives some of them a size in bits."""
        sizes = bitfields or {}
        rest = [word for name, of, bits in members for word in (self.name(name), of, bits | sizes.get(name, 0) << 24)]
        return self.raw(kind, name, size, rest, len(members), int(bool(sizes)))

    def enum(self, name: str, values: Mapping[str, int], *, signed: bool = False) -> int:
        rest = [word for key, value in values.items() for word in (self.name(key), value & 0xFFFFFFFF)]
        return self.raw(Kind.ENUM, name, 4, rest, len(values), int(signed))

    def enum64(self, name: str, values: Mapping[str, int], *, signed: bool = False) -> int:
        rest = []
        for key, value in values.items():
            rest += [self.name(key), value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF]
        return self.raw(Kind.ENUM64, name, 8, rest, len(values), int(signed))

    def function(self, parameters: Sequence[int]) -> int:
        rest = [word for parameter in parameters for word in (0, parameter)]
        return self.raw(Kind.FUNC_PROTO, "", 0, rest, len(parameters))

    def bytes(self, layout: bytes = b"") -> bytes:
        """The file; with a ``layout`` section (the length of each kind) as Linux 7.2 writes it, if given."""
        types, names = bytes(self._types), bytes(self._names)
        size = LONG_HEADER_SIZE if layout else HEADER_SIZE
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, size, 0, len(types), len(types), len(names))
        if layout:
            header += struct.pack("<II", len(types) + len(names), len(layout))
        return header + types + names + layout


def small_kernel() -> BtfWriter:
    """A kernel with a handful of structures, two tracepoints and three enums."""
    b = BtfWriter()
    char, s32, s64 = (b.integer(name, size, signed=True) for name, size in (("char", 1), ("int", 4), ("long", 8)))
    u16, u32, u64 = (b.integer(name, size) for name, size in (("short", 2), ("unsigned", 4), ("size_t", 8)))
    boolean = b.to(Kind.TYPEDEF, b.integer("_Bool", 1), "bool")
    void_pointer = b.to(Kind.PTR, 0)
    uid = b.to(Kind.TYPEDEF, b.struct("", 4, [("val", b.to(Kind.TYPEDEF, u32, "uid_t"), 0)]), "kuid_t")
    atomic = b.to(Kind.TYPEDEF, b.struct("", 4, [("counter", s32, 0)]), "atomic_t")
    lock = b.struct("raw_lock", 4, [("owner", u16, 0), ("next", u16, 16)])
    dentry = b.to(Kind.PTR, b.raw(Kind.FWD, "dentry", 0))
    path = b.struct("path", 16, [("mnt", void_pointer, 0), ("dentry", dentry, 64)])
    halves = b.struct("", 8, [("low", u32, 0), ("high", u32, 32)])
    text = b.to(Kind.PTR, b.to(Kind.CONST, char))
    file_members = [
        ("f_mode", u32, 0),
        ("f_lock", lock, 32),
        ("f_path", b.to(Kind.CONST, path), 64),
        ("", b.struct("", 8, [("pair", u64, 0), ("", halves, 0)], kind=Kind.UNION), 192),
        ("f_name", text, 256),
        ("f_time", b.struct("timespec64", 16, [("tv_sec", s64, 0), ("tv_nsec", s64, 64)]), 320),
        ("f_blob", b.struct("blob", 9, [("word", u64, 0), ("byte", char, 64)]), 448),
        ("f_paths", b.array(path, 0, s32), 576),
    ]
    b.struct("file", 72, file_members)
    comm, running, table = (
        b.array(char, 16, s32),
        b.to(Kind.VOLATILE, s32),
        b.array(b.array(u32, 3, s32), 2, s32),
    )
    task = b.next_id + 2  # a pointer to the structure that follows, which itself has such pointers
    task_members = [
        ("pid", s32, 0),
        ("state", running, 32),
        ("parent", task, 64),
        ("comm", comm, 128),
        ("uid", uid, 256),
        ("usage", atomic, 288),
        ("in_execve", u32, 320),
        ("files", b.to(Kind.PTR, task), 384),
        ("table", table, 448),
    ]
    b.to(Kind.PTR, b.struct("task_struct", 80, task_members, {"in_execve": 1}))
    tracepoints = {
        "exit": [void_pointer, task, boolean],
        "paths": [void_pointer, b.to(Kind.PTR, dentry), text],
    }
    for name, parameters in tracepoints.items():
        b.to(Kind.TYPEDEF, b.to(Kind.PTR, b.function(parameters)), f"btf_trace_{name}")
    b.enum("", {"IORING_OP_NOP": 0, "IORING_OP_OPENAT": 18})
    b.enum("level", {"LEVEL_NONE": -1, "LEVEL_SOME": 5}, signed=True)
    b.enum64("mask", {"MASK_LOW": 1, "MASK_HIGH": 1 << 40, "MASK_ALL": -1}, signed=True)
    return b
