# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes' C knows of the events: their structs, kinds and sizes, from their layouts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from probes.event import ProcessEvent
from probes.fields import Chars, Ip, Opaque, Scalar
from probes.layout import Member, layout


def _c_members(members: Iterable[Member]) -> Iterator[str]:
    for member in members:
        if member.pad:
            yield f"\tu8 pad_{member.offset}[{member.pad}];"
        match member.wire:
            case Scalar(ctype=ctype):
                yield f"\t{ctype} {member.name};"
            case Chars(size=size):
                yield f"\tchar {member.name}[{size}];"
            case Ip():
                yield f"\tu8 {member.name}[16];"
            case Opaque(struct=name):
                yield f"\tstruct {name} {member.name};"


def _c_struct(name: str, members: tuple[Member, ...], first: list[str], start: int) -> str:
    lines = [f"struct {name} {{", *first, *_c_members(members), "} __attribute__((packed, aligned(8)));"]
    lines += [
        f'_Static_assert(offsetof(struct {name}, {m.name}) == {m.offset - start}, "{name}.{m.name}");' for m in members
    ]
    return "\n".join(lines)


_STRUCTS = """\
/* Which file, and which content of it; as probes.identity.FileId. */
struct hl_file_id {
	u64 inode;
	u64 ctime;
	u64 mtime;
	u64 size;
	u64 device;
};

/* A file when it was created; as probes.identity.CreatedId. */
struct hl_created_id {
	u64 inode;
	u64 ctime;
	u32 device;
	u32 generation;
};

/* Who a task is; as probes.fields.IDS. */
struct hl_ids {
	u32 uid, euid, suid, fsuid;
	u32 gid, egid, sgid, fsgid;
};"""


def c_header(events: Iterable[type[ProcessEvent]], kinds: Sequence[str] = ()) -> str:
    """The C declarations of all `events`: kinds, slots, structs, cut bits, sizes.

    A kind's slot is its index in the counters map: its name's place among
    `kinds`, or else in the order of the events' numbers.
    """
    layouts = sorted((layout(event) for event in events), key=lambda each: each.event.data_type)
    slots = kinds or [each.event.event_name for each in layouts]
    parts = [
        "/* Made from the event declarations; do not edit. */",
        _STRUCTS,
        _c_struct("hl_header", layout(ProcessEvent).header, ["\tu32 length;", "\tu32 kind;"], 0),
        f"#define HL_SLOTS {max(len(slots), 1)}",
    ]
    for each in layouts:
        name = each.event.event_name
        upper = name.upper()
        parts += [
            f"#define HL_KIND_{upper} {each.event.data_type}",
            f"#define HL_SLOT_{upper} {slots.index(name)}",
            f"#define HL_SIZE_{upper} {each.size}",
            _c_struct(f"hl_{name}", each.body, [], each.header_size),
        ]
        for tail in each.tails:
            assert tail.tail is not None
            parts += [
                f"#define HL_{upper}_{tail.name.upper()}_MAX {tail.tail.limit}",
                f"#define HL_{upper}_{tail.name.upper()}_CUT {each.cut_bit(tail.name)}U",
            ]
    return "\n".join(parts) + "\n"
