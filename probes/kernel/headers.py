# SPDX-License-Identifier: GPL-2.0-or-later
"""The header tree that bcc compiles against, made from the running kernel's BTF: no kernel headers needed.

``BCC_KERNEL_SOURCE`` points at the tree. It holds the few files that bcc itself includes, and
``hookline/kernel.h`` with the structures that probes read: only the members they ask for, at the offsets of
this very kernel. bcc lays structures out as x86 but generates BPF code, and then alignment shifts members
without an error; so all padding is byte arrays, structures are packed, and C asserts offsets and sizes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from probes.errors import FeatureMissing
from probes.kernel.btf_index import Kind
from probes.kernel.features import kernel_release, kernel_version
from probes.kernel.header_text import PROVIDED_STRUCTS, fixed_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from probes.kernel.btf import Btf, Member, Type

# Deeper than any kernel type; an endless chain in a damaged file stops here.
_MAX_STARS, _MAX_WRAPS = 4, 8


class _Field(NamedTuple):
    name: str
    offset: int
    size: int
    declaration: str


def write_tree(directory: Path, btf: Btf, structs: Mapping[str, Sequence[str]], extra: Mapping[str, str]) -> None:
    """Write the tree below ``directory``, which ``BCC_KERNEL_SOURCE`` then names.

    ``structs`` maps a structure's name to the members that probes read (see ``declare_structs``); ``extra``
    maps further paths, relative to ``include/``, to their text. Raises ``FeatureMissing`` and ``BtfError``.
    """
    files = {
        **fixed_files(kernel_version(kernel_release())),
        "hookline/kernel.h": declare_structs(btf, structs),
        **extra,
    }
    for path, text in files.items():
        target = directory / "include" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def declare_structs(btf: Btf, structs: Mapping[str, Sequence[str]]) -> str:
    """C text that declares ``structs`` with the wanted members at this kernel's offsets.

    A member is ``name``, a path into embedded structures ``name.inner``, or spellings of different kernel
    versions ``new|old.inner``, of which the first that exists is declared under the *first* spelling (dots
    become underscores). A ``?`` at the end makes it optional. ``HAVE_struct_member`` is defined for each one
    found. Raises ``FeatureMissing`` for one that is not optional and is absent or there only as a bit-field.
    """
    out = [f"struct {name};" for name in structs]
    done: set[str] = set(PROVIDED_STRUCTS)
    for name in structs:
        _declare_struct(btf, name, structs, done, out)
    return "\n".join(["#pragma once", *out, ""])


def _declare_struct(btf: Btf, name: str, structs: Mapping[str, Sequence[str]], done: set[str], out: list[str]) -> None:
    if name in done:
        return
    done.add(name)
    fields: dict[str, _Field] = {}
    for spelling in structs[name]:
        field = spelling.rstrip("?").split("|")[0].replace(".", "_")
        member = _find(btf, name, spelling)
        if member is None or field in fields:
            continue
        found = btf.resolve(member.type_id)
        inner = _element(btf, found)
        if inner.kind in (Kind.STRUCT, Kind.UNION) and inner.name in structs:
            _declare_struct(btf, inner.name, structs, done, out)
        fields[field] = _Field(field, member.offset, found.size, _declaration(btf, found, field, structs))
    layout = btf.struct(name)
    if layout is not None:
        out += _layout(name, layout.size, sorted(fields.values(), key=lambda field: field.offset))


def _find(btf: Btf, struct: str, spelling: str) -> Member | None:
    for path in spelling.rstrip("?").split("|"):
        member = btf.member(f"{struct}.{path}")
        if member is not None and not member.is_bitfield:
            return member
    if spelling.endswith("?"):
        return None
    spellings = spelling.replace("|", " or ")
    if btf.struct(struct) is None:
        raise FeatureMissing(f"this kernel has no struct {struct} (and so no {spellings})", struct, spelling)
    raise FeatureMissing(f"struct {struct} of this kernel has no whole-byte {spellings}", struct, spelling)


def _layout(name: str, size: int, fields: list[_Field]) -> list[str]:
    """C text of a structure from its ``fields`` in order of offset; those that overlap share a union."""
    body: list[str] = []
    end = 0
    for group in _overlapping(fields):
        start = group[0].offset
        body += _padding(end, start, f"before_{group[0].name}")
        if len(group) == 1:
            body.append(f"{group[0].declaration};")
        else:
            members = (
                " ".join([*_padding(start, field.offset, f"before_{field.name}"), f"{field.declaration};"])
                for field in group
            )
            body += [
                "union {",
                *(f"  struct {{ {text} }} __attribute__((packed));" for text in members),
                "};",
            ]
        end = max(field.offset + field.size for field in group)
    body += _padding(end, size, "end")
    alignment = min(size & -size, 8) or 1
    asserts = (
        f'_Static_assert(offsetof(struct {name}, {field.name}) == {field.offset}, "{name}.{field.name}");'
        for field in fields
    )
    return [
        f"struct {name} {{",
        *(f"  {line}" for line in body),
        f"}} __attribute__((packed, aligned({alignment})));",
        f'_Static_assert(sizeof(struct {name}) == {size}, "size of {name}");',
        *asserts,
        *(f"#define HAVE_{name}_{field.name} 1" for field in fields),
    ]


def _overlapping(fields: list[_Field]) -> list[list[_Field]]:
    groups: list[list[_Field]] = []
    end = 0
    for field in fields:
        if groups and field.offset < end:
            groups[-1].append(field)
        else:
            groups.append([field])
        end = max(end, field.offset + field.size)
    return groups


def _padding(start: int, end: int, name: str) -> list[str]:
    return [f"char __{name}[{end - start}];"] if end > start else []


def _declaration(btf: Btf, found: Type, name: str, structs: Mapping[str, Sequence[str]]) -> str:
    if found.kind == Kind.ARRAY:
        return _declaration(btf, btf.resolve(found.target), f"{name}[{found.length}]", structs)
    if found.kind in (Kind.STRUCT, Kind.UNION):
        if found.name in structs or found.name in PROVIDED_STRUCTS:
            return f"struct {found.name} {name}"
        found = _unwrapped(btf, found)
    if found.kind == Kind.PTR:
        return _pointer(btf, found, name, structs)
    return f"{_number(found)} {name}" if found.size in (1, 2, 4, 8) else f"char {name}[{found.size}]"


def _pointer(btf: Btf, found: Type, name: str, structs: Mapping[str, Sequence[str]]) -> str:
    stars = ""
    while found.kind == Kind.PTR and len(stars) < _MAX_STARS:
        stars, found = f"{stars}*", btf.resolve(found.target)
    if found.name and (found.kind in (Kind.STRUCT, Kind.FWD) or found.name in structs):
        return f"struct {found.name} {stars}{name}"
    return f"{_number(found) if found.kind == Kind.INT else 'void'} {stars}{name}"


def _number(found: Type) -> str:
    """An integer type of the same width; also for what we do not take apart, such as a spinlock."""
    if found.kind == Kind.INT and found.name in ("char", "_Bool"):
        return found.name
    return f"{'s' if found.signed else 'u'}{found.size * 8}"


def _unwrapped(btf: Btf, found: Type) -> Type:
    """The number or pointer that is all of a structure (``kuid_t``, ``atomic_t``), else that structure."""
    inner = found
    for _ in range(_MAX_WRAPS):
        layout = btf.struct_at(inner.id)
        if layout is None or len(layout.members) != 1:
            break
        (only,) = layout.members.values()
        if only.is_bitfield or btf.resolve(only.type_id).size != found.size:
            break
        inner = btf.resolve(only.type_id)
    return inner if inner.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64, Kind.PTR) else found


def _element(btf: Btf, found: Type) -> Type:
    while found.kind == Kind.ARRAY:
        found = btf.resolve(found.target)
    return found
