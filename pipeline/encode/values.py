# SPDX-License-Identifier: GPL-2.0-or-later
"""Single values as JSON, for the generated encoders: expressions and what they call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import Any, TypeVar

from probes.event import Chars, HostEvent, Ip, Opaque, ProcessEvent
from probes.layout import Field, layout
from probes.text import (
    Remembered,
    address_text,
    addresses_text,
    cstring_text,
    ids_text,
    open_file_text,
    path_text,
    to_text,
    typed_text,
    unix_text,
)

_ENCODE = JSONEncoder(separators=(",", ":")).encode

_REMEMBERED_DERIVED = 64
"""Results that are kept from one derived field to the next, and from one schema to the other."""

_Key = TypeVar("_Key", bytes, str)


def quote(text: str) -> bytes:
    """`text` as a JSON string in ASCII."""
    return encode_basestring_ascii(text).encode("ascii")


def quoted(text: Callable[[_Key], str], absent: bytes) -> Remembered[_Key, bytes]:
    """JSON strings of what `text` makes of keys; `absent` of what it makes nothing of."""

    def make(key: _Key) -> bytes:
        made = text(key)
        return quote(made) if made else absent

    return Remembered(make)


_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\') + b"\0"
"""What JSON takes as it is, and the NUL that ends an argument."""


def argv_json(argv: bytes) -> bytes:
    """Arguments as one JSON string, each ended by a space."""
    if argv.translate(None, _PLAIN):
        return quote(argv_text(argv))
    return b'"%s"' % argv.replace(b"\0", b" ")


def argv_text(argv: bytes) -> str:
    """Arguments as one text, each ended by a space."""
    return to_text(argv.replace(b"\0", b" "))


def namespace(absent: bytes) -> dict[str, Any]:
    """What the expressions of `text_expression` call; `absent` is the JSON of what is not known."""

    @lru_cache(4096)
    def address(family: int, raw: bytes) -> bytes:
        text = address_text(family, raw)
        return quote(text) if text else absent

    def open_file(path: bytes, mode: int, inode: int) -> bytes:
        text = open_file_text(path, mode, inode)
        return quote(text) if text else absent

    def path(raw: bytes, walked: int) -> bytes:
        text = path_text(raw, walked)
        return quote(text) if text else absent

    def typed(raw: bytes, metafied: int) -> bytes:
        text = typed_text(raw, metafied)
        return quote(text) if text else absent

    def addresses(raw: bytes) -> bytes:
        found = addresses_text(raw)
        return quote(",".join(found)) if found else absent

    return {
        "addresses": addresses,
        "typed": typed,
        "ascii_json": encode_basestring_ascii,
        "quote": quote,
        "argv_json": argv_json,
        "names": quoted(to_text, absent),
        "cstrings": quoted(cstring_text, absent),
        "unix_names": quoted(unix_text, absent),
        "texts": quoted(str, absent),
        "ids": quoted(ids_text, absent),
        "address": address,
        "open_file": open_file,
        "path": path,
    }


def number_format(field: Field) -> str:
    """How a number is quoted."""
    return '"%016x"' if field.hex else '"%d"'


def derived_values(event: type[HostEvent], *, absent: bytes, as_text: bool) -> dict[str, Callable[..., bytes]]:
    """What makes the JSON of each derived field, by its name; `as_text`: numbers as strings."""
    makers = {each.make: lru_cache(_REMEMBERED_DERIVED)(each.make) for each in event.derived}

    def of(name: str, make: Callable[..., Mapping[str, object]]) -> Callable[..., bytes]:
        def value(*sources: object) -> bytes:
            found = make(*sources).get(name)
            if found is None:
                return absent
            return _ENCODE(str(found) if as_text else found).encode("ascii")

        return value

    return {each.name: of(each.name, makers[each.make]) for each in event.derived}


def text_expression(field: Field) -> str:
    """An expression over the event ``e`` that gives the JSON of a text field, as bytes."""
    if field.derived is not None:
        return f"derived[{field.name!r}]({', '.join(f'e.{source}' for source in field.derived.sources)})"
    value = f"e.{field.name}"
    match field.wire:
        case Chars():
            return f"cstrings[{value}]"
        case Ip(family=family):
            return f"address(e.{family}, {value})"
        case Opaque():
            return f"ids[{value}]"
    form = field.tail.form if field.tail is not None else "name"
    match form:
        case "argv":
            return f"argv_json({value})"
        case "addresses":
            return f"addresses({value})"
        case "typed":
            return f"typed({value}, {value}_metafied)"
        case "unix":
            return f"unix_names[{value}]"
        case "open_file":
            special = f"open_file({value}, {value}_mode, {value}_inode)"
            return f"(names[{value}] if {value}[:1] == b'/' else {special})"
        case "path":
            return f"path({value}, {value}_walked)"
        case "name" if field.python_type is bytes:
            return f"names[{value}]"
        case "name" if field.unique:
            return f"ascii_json({value}).encode('ascii')"
        case "name":
            return f"texts[{value}]"


def cut_marks(event: type[HostEvent]) -> tuple[tuple[int, str], ...]:
    """(bit of `flags`, name in the smith schema) of everything in `event` that can be cut."""
    if not issubclass(event, ProcessEvent):
        return ()
    shape = layout(event)
    return tuple(
        (shape.cut_bit(tail.name), tail.names.smith or tail.name.removesuffix("_path")) for tail in shape.tails
    )
