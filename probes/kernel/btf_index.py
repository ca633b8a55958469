# SPDX-License-Identifier: GPL-2.0-or-later
"""The bytes of a BTF file: its header, its sections, and where in them each type starts.

The format is that of the kernel's ``Documentation/bpf/btf.rst`` and ``include/uapi/linux/btf.h``: a header, a
section of 32-bit words that describes one type after the other, a section of NUL-terminated names and, in
Linux 7.2, the length of each kind of type. ``probes.kernel.btf`` answers questions from what is found here.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from probes.errors import BtfError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(IntEnum):
    """``BTF_KIND_*`` of ``include/uapi/linux/btf.h``; 0 stands for ``void``."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


HEAD_WORDS = 3
"""Words that every type starts with: name offset, info (flag, kind, count of entries), size or type id."""

# Parts of the info word as wide as Linux 7.2 has them; earlier kernels keep the extra bits zero.
_KIND_MASK, _COUNT_MASK = 0x7F, 0xFFFFFF

_ENTRY_WORDS = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
_TAIL_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_HEADER = struct.Struct("<HBBIIIII")
_LAYOUT_EXTENT = struct.Struct("<II")
_LAYOUT = struct.Struct("<BBH")
_MAGIC, _VERSION = 0xEB9F, 1
# The length of an unknown kind is unknown as well: a step beyond any end stops the index.
_NO_STEP = 1 << 40


@dataclass(frozen=True, slots=True)
class Index:
    """A BTF file taken apart. Type ids count from 1; id 0 is ``void`` and has no words.

    ``starts[id]`` is where a type's words begin. ``tags`` (struct, union, enum) and ``typedefs`` map a name's
    offset in ``strings`` to the first type of that name; ``enums`` are the ids of all enums, named or not.
    Methods raise ``BtfError`` for an id or an offset that lies outside of the file.
    """

    words: array[int]
    strings: bytes
    starts: array[int]
    tags: dict[int, int]
    typedefs: dict[int, int]
    enums: list[int]

    def head(self, type_id: int) -> tuple[Kind, bool, int, int, int]:
        """Kind, flag bit, offset of the name, size or type id, and where the words after these begin."""
        if type_id == 0:
            return Kind.VOID, False, 0, 0, 0
        if type_id >= len(self.starts):
            raise BtfError(f"BTF type id {type_id} is above the last one: the file is damaged")
        start = self.starts[type_id]
        name, info, value = self.words[start : start + HEAD_WORDS]
        kind = info >> 24 & _KIND_MASK
        if kind >= len(Kind):
            raise BtfError(f"BTF type {type_id} has the unknown kind {kind}: a newer Hookline is needed")
        return Kind(kind), info >> 31 > 0, name, value, start + HEAD_WORDS

    def entries(self, type_id: int) -> Iterator[array[int]]:
        """Members, values or parameters of a type, each as its words: first the offset of its name."""
        kind, *_, start = self.head(type_id)
        stride = _ENTRY_WORDS[kind]
        for at in range(start, start + stride * self._count(type_id), stride):
            yield self.words[at : at + stride]

    def entry(self, type_id: int, name: int) -> array[int] | None:
        """The entry of a type that has its name at this offset; much faster than a search in ``entries``."""
        kind, *_, start = self.head(type_id)
        stride = _ENTRY_WORDS[kind]
        names = self.words[start : start + stride * self._count(type_id) : stride]
        if name not in names:
            return None
        at = start + stride * names.index(name)
        return self.words[at : at + stride]

    def functions(self) -> dict[int, int]:
        """Type ids of all functions by the offsets of their names; few ask, so the index does without."""
        words = self.words
        heads = enumerate(self.starts[1:], 1)
        return {words[at]: type_id for type_id, at in heads if words[at + 1] >> 24 & _KIND_MASK == Kind.FUNC}

    def _count(self, type_id: int) -> int:
        return self.words[self.starts[type_id] + 1] & _COUNT_MASK

    def string(self, offset: int) -> str:
        """The name at an offset; empty at 0."""
        end = self.strings.find(b"\0", offset)
        if end < 0:
            raise BtfError(f"BTF name offset {offset} is beyond the string section: the file is damaged")
        try:
            return self.strings[offset:end].decode("ascii")
        except UnicodeDecodeError:
            raise BtfError(f"BTF name at offset {offset} is not ASCII: the file is damaged") from None

    def find(self, name: str) -> int:
        """Offset of a name (BTF holds each once); 0, that of the empty name, if it is not there."""
        return self.strings.find(b"\0%b\0" % name.encode()) + 1


def read_index(data: bytes) -> Index:
    """Index a whole BTF file in this machine's byte order (little-endian); ``BtfError`` if malformed."""
    if len(data) < _HEADER.size:
        raise BtfError(f"BTF file of {len(data)} bytes is shorter than its header: it is truncated")
    magic, version, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise BtfError(f"not a little-endian BTF file of version 1 (magic {magic:#06x}, version {version})")
    types = _section(data, header + type_at, type_size, "type")
    strings = _section(data, header + string_at, string_size, "string")
    if type_size % 4 or header < _HEADER.size:
        raise BtfError(f"BTF header ({header} bytes) or types ({type_size} bytes) of odd size: it is damaged")
    if strings[:1] != b"\0" or strings[-1:] != b"\0":
        raise BtfError("BTF string section does not start and end with a zero byte: the file is damaged")
    words = array("I")
    words.frombytes(types)
    return Index(words, strings, *_walk(words, *_lengths(data, header)))


def _section(data: bytes, start: int, size: int, name: str) -> bytes:
    if start + size > len(data):
        raise BtfError(f"BTF {name} section ends at byte {start + size} of {len(data)}: it is truncated")
    return data[start : start + size]


def _lengths(data: bytes, header: int) -> tuple[list[int], list[int]]:
    """Words of a type of each kind: always, and for each of its entries."""
    fixed = [HEAD_WORDS + _TAIL_WORDS.get(kind, 0) if kind else _NO_STEP for kind in Kind]
    each = [_ENTRY_WORDS.get(kind, 0) for kind in Kind]
    if header >= _HEADER.size + _LAYOUT_EXTENT.size and len(data) >= header:
        start, size = _LAYOUT_EXTENT.unpack_from(data, _HEADER.size)
        layout = _section(data, header + start, size - size % _LAYOUT.size, "layout")
        for tail, entry, _ in list(_LAYOUT.iter_unpack(layout))[len(Kind) : _KIND_MASK + 1]:
            fixed.append(HEAD_WORDS + tail // 4)
            each.append(entry // 4)
    unknown = _KIND_MASK + 1 - len(fixed)
    return fixed + [_NO_STEP] * unknown, each + [0] * unknown


def _walk(
    words: array[int], fixed: list[int], each: list[int]
) -> tuple[array[int], dict[int, int], dict[int, int], list[int]]:
    starts, enums = array("I", [0]), list[int]()
    tags, typedefs = dict[int, int](), dict[int, int]()
    end, position, type_id, kind = len(words), 0, 0, 0
    # Nearly all of the reader's time goes here: plain numbers, and no look-up that can be left out.
    while position + HEAD_WORDS <= end:
        starts.append(position)
        type_id += 1
        info = words[position + 1]
        kind = info >> 24 & 0x7F
        if kind == 8:
            typedefs.setdefault(words[position], type_id)
        elif kind in (4, 5):
            tags.setdefault(words[position], type_id)
        elif kind in (6, 19):
            tags.setdefault(words[position], type_id)
            enums.append(type_id)
        position += fixed[kind] + each[kind] * (info & 0xFFFFFF)
    if position >= _NO_STEP:
        raise BtfError(f"BTF type {type_id} has the unknown kind {kind}: a newer Hookline is needed")
    if position != end:
        raise BtfError(f"BTF type {type_id} does not end with the type section: the file is damaged")
    for names in (tags, typedefs):
        names.pop(0, None)  # the anonymous ones: a name that is not found has offset 0 too
    return starts, tags, typedefs, enums
