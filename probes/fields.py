# SPDX-License-Identifier: GPL-2.0-or-later
"""What the annotations of an event's fields are made of: wire types, names in the outputs, marks.

How a class uses them is told in `probes.event`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

EcsType = Literal["keyword", "long", "ip", "date", "boolean", "wildcard", "object"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """An integer on the wire: its C type and `struct` code."""

    ctype: str
    code: str


@dataclass(frozen=True, slots=True)
class Chars:
    """A NUL-padded character array of `size` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """A C struct of `size` bytes that the event keeps as it is, and that compares as a whole."""

    struct: str
    size: int


@dataclass(frozen=True, slots=True)
class Ip:
    """A 16-byte address, of v4 the first four bytes.

    `family` names the event's field that holds AF_INET or AF_INET6.
    """

    family: str


Wire = Scalar | Chars | Ip | Opaque
"""What has a fixed size in a record."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Bytes after the fixed part, at most `limit`; their length stands in the body as NAME_length.

    `form` says what they are: a "name"; a "unix" socket's sun_path; an "argv",
    of which a NUL ends each argument; "addresses", each a u32 family and 16
    bytes as of `Ip`; or an "open_file": a path, or nothing of a socket or
    pipe, which NAME_mode and NAME_inode then tell; a "path" that the kernel
    walked for its first NAME_walked bytes, and that goes on as the caller named
    it; or what was "typed" into a shell, as zsh keeps it if NAME_metafied says so.
    """

    limit: int
    form: Literal["name", "unix", "argv", "addresses", "open_file", "path", "typed"] = "name"


@dataclass(frozen=True, slots=True)
class Variable:
    """The value of one variable of the environment.

    The kernel side sends just the wanted strings; they are the last tail, and no field of the event.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Flag:
    """One bit of the header's flags."""

    bit: int


@dataclass(frozen=True, slots=True)
class BootTime:
    """Marks nanoseconds of CLOCK_BOOTTIME."""


@dataclass(frozen=True, slots=True)
class Hex:
    """Marks an integer that is 16 hexadecimal digits in both schemas: an address, a word of memory."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a field means, with its unit, and what it is called in each output (None: not there)."""

    doc: str
    smith: str | None = None
    ecs: str | None = None
    ecs_type: EcsType = "keyword"
    labels: Mapping[int, str] = field(default_factory=dict)
    """What the ecs schema says instead of a number (2: "ipv4"); nothing where that is empty."""

    label: str | None = None
    """What smith calls the label, which it has beside the number."""


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file that the `hashes` enrichment hashes: the names of the fields that identify it, and of the answer's."""

    file: str
    """A `FileId`, or the `CreatedId` of a file that is hashed once its creator has written it."""

    path: str
    md5: str
    status: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Own:
    """Marks a field that an event keeps by itself.

    What lacks this mark is kept in one piece with its neighbours. If a body has a field of its own, the rest of it is
    taken to come again and again. Tails of their own stand behind the others.
    """


@dataclass(frozen=True, slots=True)
class Block:
    """Marks bytes of the record that an event keeps in one piece; no field of the event."""


@dataclass(frozen=True, slots=True)
class Unique:
    """Marks a text that differs from event to event, which it is no use to remember."""


@dataclass(frozen=True, slots=True)
class Part:
    """Marks a text that stands in another attribute of the event, `piece`, with the others so marked, parted by NULs.

    So an enrichment sets one attribute, and what is made of it can be remembered. An empty piece, or an empty part,
    is nothing: both schemas leave it out. A part of the ECS type long is a number in digits.
    """

    piece: str
    absent: str = ""
    """What smith says where it is nothing, instead of leaving it out."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A value of the outputs that is made when an event is encoded, from fields of the event: from a packet, say.

    It takes no room in the record and is no attribute of the event.
    """

    name: str
    sources: tuple[str, ...]
    """The fields that `make` gets."""

    make: Callable[..., Mapping[str, object]]
    """Gives texts, numbers and lists by `name`; what is not known is not there. Called once for all that share it.

    It must not fail, and its time must be bounded, whatever the fields hold.
    """

    names: Names


u8 = Annotated[int, Scalar("u8", "B")]
u16 = Annotated[int, Scalar("u16", "H")]
u32 = Annotated[int, Scalar("u32", "I")]
u64 = Annotated[int, Scalar("u64", "Q")]
s32 = Annotated[int, Scalar("s32", "i")]
s64 = Annotated[int, Scalar("s64", "q")]


Result = Annotated[s32, Names("0, or the negative errno of a failure.", "res", "hookline.result", "long")]
"""What most system calls return."""

IDS = Opaque("hl_ids", 32)
"""Real, effective, saved and file system user ids, then the same of groups: u32 each."""
