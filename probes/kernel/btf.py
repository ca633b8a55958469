# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own type information, read without a library: structures, tracepoints and enumerators by name.

Source: ``/sys/kernel/btf/vmlinux`` (``Documentation/bpf/btf.rst``). Reading a file indexes all of it in one
pass (``probes.kernel.btf_index``); members, sizes and spellings are worked out when they are asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from probes.errors import BtfError
from probes.kernel.btf_index import Kind, read_index

if TYPE_CHECKING:
    from array import array
    from collections.abc import Mapping

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_POINTER_SIZE = 8
_ALIASES = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_QUALIFIERS = {Kind.VOLATILE: "volatile", Kind.CONST: "const", Kind.RESTRICT: "restrict"}
_KEYWORDS = {Kind.STRUCT: "struct ", Kind.UNION: "union ", Kind.ENUM: "enum ", Kind.ENUM64: "enum "}
_ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_SIZED = frozenset({Kind.INT, Kind.STRUCT, Kind.UNION, Kind.FLOAT, Kind.DATASEC}) | _ENUMS
_INT_SIGNED = 1 << 24
# Bounds for malformed files only: real chains stay below 10 and real structures below 1000 members.
_MAX_DEPTH = 64
_MAX_MEMBERS = 1 << 16


class Type(NamedTuple):
    """A type without its typedefs and qualifiers; ``name`` is empty for an anonymous type.

    ``size`` is in bytes (0 for void, functions and forward declarations), ``target`` the id of what a pointer
    or an array is of, ``length`` an array's number of elements.
    """

    id: int
    kind: Kind
    name: str
    size: int
    signed: bool = False
    target: int = 0
    length: int = 0


class Member(NamedTuple):
    """A member; ``bit_offset`` counts from the outermost structure, ``bit_size`` is 0 unless a bit-field."""

    name: str
    type_id: int
    bit_offset: int
    bit_size: int

    @property
    def offset(self) -> int:
        """Offset in bytes (for a bit-field: of the byte that holds its first bit)."""
        return self.bit_offset // 8

    @property
    def is_bitfield(self) -> bool:
        """True if the member is not made of whole bytes: a caller that reads bytes must refuse it."""
        return self.bit_size > 0 or self.bit_offset % 8 > 0


class Struct(NamedTuple):
    """A structure or union: its size in bytes and its members, those of anonymous members among them."""

    name: str
    size: int
    members: Mapping[str, Member]


class Btf:
    """One indexed BTF file. Every method raises ``BtfError`` when what it follows is malformed."""

    __slots__ = ("_functions", "_index", "_structs")

    def __init__(self, data: bytes) -> None:
        """Index a whole BTF file in this machine's byte order (little-endian)."""
        self._index = read_index(data)
        self._structs: dict[int, Struct] = {}
        self._functions: dict[int, int] | None = None

    @classmethod
    def read(cls, path: Path = VMLINUX) -> Btf:
        """Read and index a BTF file; ``BtfError`` if it cannot be read or is malformed."""
        try:
            data = path.read_bytes()
        except OSError as error:
            message = f"cannot read {path}: {error.strerror} (a kernel with CONFIG_DEBUG_INFO_BTF provides it)"
            raise BtfError(message) from error
        return cls(data)

    def struct(self, name: str) -> Struct | None:
        """The structure or union with this tag, or behind this typedef; None if the kernel has none."""
        offset = self._index.find(name)
        type_id = self._index.tags.get(offset) or self._index.typedefs.get(offset)
        return self.struct_at(type_id) if type_id else None

    def struct_at(self, type_id: int) -> Struct | None:
        """The structure or union that a type id resolves to; None if it is of another kind."""
        found = self.resolve(type_id)
        if found.kind not in (Kind.STRUCT, Kind.UNION):
            return None
        if found.id not in self._structs:
            self._structs[found.id] = Struct(found.name, found.size, self._flatten(found.id))
        return self._structs[found.id]

    def struct_id(self, name: str) -> int | None:
        """Type id of the structure or union with this tag; None if the kernel has none."""
        return self._index.tags.get(self._index.find(name))

    def member(self, path: str) -> Member | None:
        """The member at ``struct.member`` or ``struct.member.member``, at its flat offset; None if absent."""
        name, *steps = path.split(".")
        inside, found = self.struct(name), None
        for step in steps:
            inner = inside.members.get(step) if inside else None
            if inner is None:
                return None
            found = inner._replace(bit_offset=inner.bit_offset + (found.bit_offset if found else 0))
            inside = self.struct_at(inner.type_id)
        return found

    def has_member(self, path: str) -> bool:
        """True if ``member(path)`` finds something."""
        return self.member(path) is not None

    def function(self, name: str) -> int | None:
        """Type id of a kernel function, static ones included; None if it is absent, inlined or renamed."""
        if self._functions is None:
            self._functions = self._index.functions()
        return self._functions.get(self._index.find(name)) if name else None

    def tracepoint(self, name: str) -> tuple[str, ...] | None:
        """C types of a raw tracepoint's arguments, without the leading ``void *``; None if it is absent.

        Source: the typedef ``btf_trace_NAME`` that ``include/trace/bpf_probe.h`` makes for each trace event.
        """
        type_id = self._index.typedefs.get(self._index.find(f"btf_trace_{name}"))
        if type_id is None:
            return None
        handler = self.resolve(self.resolve(type_id).target)
        if handler.kind != Kind.FUNC_PROTO:
            raise BtfError(f"BTF typedef btf_trace_{name} is not of a function pointer: the file is damaged")
        return tuple(self.spell(parameter) for _, parameter in list(self._index.entries(handler.id))[1:])

    def tracepoints(self) -> frozenset[str]:
        """Names of all raw tracepoints of the kernel image (modules have BTF files of their own)."""
        prefix, strings = b"btf_trace_", self._index.strings
        named = (offset for offset in self._index.typedefs if strings.startswith(prefix, offset))
        return frozenset(self._index.string(offset + len(prefix)) for offset in named)

    def enumerator(self, name: str) -> int | None:
        """Value of an enumerator of any enum, such as ``IORING_OP_OPENAT``; None if the kernel has none.

        Kernels before 6.0 do not record that an enum is signed: there a negative value reads as unsigned.
        """
        offset = self._index.find(name)
        for type_id in self._index.enums if offset else ():
            entry = self._index.entry(type_id, offset)
            if entry is not None:
                return self._value(type_id, entry)
        return None

    def enum(self, name: str) -> dict[str, int] | None:
        """Enumerators and their values of the enum with this tag; None if the kernel has none."""
        type_id = self._index.tags.get(self._index.find(name), 0)
        if self.resolve(type_id).kind not in _ENUMS:
            return None
        entries = self._index.entries(type_id)
        return {self._index.string(entry[0]): self._value(type_id, entry) for entry in entries}

    def _value(self, type_id: int, entry: array[int]) -> int:
        _, signed, *_ = self._index.head(type_id)
        return int.from_bytes(entry[1:].tobytes(), "little", signed=signed)

    def resolve(self, type_id: int) -> Type:
        """The type behind an id, without typedefs and qualifiers; id 0 is ``void``."""
        return self._resolve(type_id, _MAX_DEPTH)

    def _resolve(self, type_id: int, depth: int) -> Type:
        kind, flag, name, value, rest = self._index.head(type_id)
        if kind in _ALIASES or kind == Kind.ARRAY:
            if depth == 0:
                raise BtfError(f"BTF type {type_id} is an endless chain of types: the file is damaged")
            if kind in _ALIASES:
                return self._resolve(value, depth - 1)
            target, _, length = self._index.words[rest : rest + 3]
            size = length * self._resolve(target, depth - 1).size
            return Type(type_id, kind, "", size, target=target, length=length)
        text = self._index.string(name)
        if kind == Kind.PTR:
            return Type(type_id, kind, text, _POINTER_SIZE, target=value)
        if kind in _SIZED:
            signed = self._index.words[rest] & _INT_SIGNED > 0 if kind == Kind.INT else flag and kind in _ENUMS
            return Type(type_id, kind, text, value, signed=signed)
        return Type(type_id, kind, text, 0)

    def spell(self, type_id: int) -> str:
        """A type as C spells it, typedefs kept; a function or an array behind a pointer reads ``void``."""
        return self._spell(type_id, _MAX_DEPTH)

    def _spell(self, type_id: int, depth: int) -> str:
        kind, flag, name, target, _ = self._index.head(type_id)
        if kind in (Kind.VOID, Kind.FUNC_PROTO, Kind.ARRAY):
            return "void"
        if kind not in (Kind.PTR, Kind.TYPE_TAG, *_QUALIFIERS):
            keyword = ("union " if flag else "struct ") if kind == Kind.FWD else _KEYWORDS.get(kind, "")
            return keyword + (self._index.string(name) or "(anonymous)")
        if depth == 0:
            raise BtfError(f"BTF type {type_id} is an endless chain of types: the file is damaged")
        inner = self._spell(target, depth - 1)
        is_pointer = inner.endswith("*")
        if kind == Kind.PTR:
            return f"{inner}*" if is_pointer else f"{inner} *"
        if kind in _QUALIFIERS:
            return f"{inner} {_QUALIFIERS[kind]}" if is_pointer else f"{_QUALIFIERS[kind]} {inner}"
        return inner

    def _flatten(self, type_id: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        pending, seen = [(type_id, 0)], 0
        while pending:
            current, base = pending.pop()
            _, has_bitfields, *_ = self._index.head(current)
            for name, inner, place in self._index.entries(current):
                seen += 1
                if seen > _MAX_MEMBERS:
                    raise BtfError(f"BTF type {type_id} has no end of members: the file is damaged")
                offset, size = (place & 0xFFFFFF, place >> 24) if has_bitfields else (place, 0)
                if name:
                    text = self._index.string(name)
                    members.setdefault(text, Member(text, inner, base + offset, size))
                elif (found := self.resolve(inner)).kind in (Kind.STRUCT, Kind.UNION):
                    pending.append((found.id, base + offset))
        return members
