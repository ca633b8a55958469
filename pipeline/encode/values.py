# SPDX-License-Identifier: GPL-2.0-or-later
"""Single values as JSON, for the generated encoders: expressions and what they call.

The names of what they call begin with ``json_``, lest a field has the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json.encoder import JSONEncoder, encode_basestring_ascii
from typing import Any, TypeVar

from probes.declared import Field, struct_fields
from probes.event import HostEvent, ProcessEvent
from probes.fields import Chars, Derived, Ip, Opaque
from probes.layout import layout
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


_ODD = 0x7F
"""In `_SPACED`: what JSON does not take as it is."""

_SPACED = bytes(
    byte if 0x20 <= byte < _ODD and byte not in b'"\\' else 0x20 if byte == 0 else _ODD for byte in range(256)
)
"""For bytes.translate: the NUL that ends an argument becomes a space."""


def argv_json(argv: bytes) -> bytes:
    """Arguments as one JSON string, each ended by a space."""
    text = argv.translate(_SPACED)
    return quote(argv_text(argv)) if _ODD in text else b'"%s"' % text


def argv_text(argv: bytes) -> str:
    """Arguments as one text, each ended by a space."""
    return to_text(argv.replace(b"\0", b" "))


def namespace(event: type[HostEvent], absent: bytes) -> dict[str, Any]:
    """What the expressions call; `absent` is the JSON of what is not known."""

    @lru_cache(1024)
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
        "json_once": encode_basestring_ascii,
        "json_quote": quote,
        "json_argv": argv_json,
        "json_names": quoted(to_text, absent),
        "json_cstrings": quoted(cstring_text, absent),
        "json_unix_names": quoted(unix_text, absent),
        "json_texts": quoted(str, absent),
        "json_part": lambda text: quote(text) if text else b"",
        "json_ids": quoted(ids_text, absent),
        "json_address": address,
        "json_addresses": addresses,
        "json_path": path,
        "json_typed": typed,
        "json_open_file": open_file,
        "json_labels": {
            field.name: {number: quote(label) if label else absent for number, label in field.names.labels.items()}
            for field in struct_fields(event)
        },
        "json_absent": absent,
    }


def number_format(field: Field) -> str:
    """How a number is quoted."""
    return '"%016x"' if field.hex else '"%d"'


def derived_values(event: type[HostEvent], *, absent: bytes, as_text: bool) -> dict[str, Callable[..., bytes]]:
    """What makes the JSON of each derived field, by its name; `as_text`: numbers as strings."""
    makers = {each.make: lru_cache(_REMEMBERED_DERIVED)(each.make) for each in event.derived}

    def of(derived: Derived) -> Callable[..., bytes]:
        name, make, keyword = derived.name, makers[derived.make], derived.names.ecs_type == "keyword"

        def value(*sources: object) -> bytes:
            found = make(*sources).get(name)
            if found is None:
                return absent
            is_text = as_text or (keyword and isinstance(found, int))
            return _ENCODE(str(found) if is_text else found).encode("ascii")

        return value

    return {each.name: of(each) for each in event.derived}


def text_expression(field: Field, at: Callable[[str], str]) -> str:
    """An expression that gives the JSON of a text field, as bytes; `at` gives the expression of a field's value."""
    if field.derived is not None:
        return f"json_derived[{field.name!r}]({', '.join(map(at, field.derived.sources))})"
    value = at(field.name)
    match field.wire:
        case Chars():
            return f"json_cstrings[{value}]"
        case Ip(family=family):
            return f"json_address({at(family)}, {value})"
        case Opaque():
            return f"json_ids[{value}]"
    form = field.tail.form if field.tail is not None else "name"
    match form:
        case "argv":
            return f"json_argv({value})"
        case "addresses":
            return f"json_addresses({value})"
        case "typed":
            return f"json_typed({value}, {at(f'{field.name}_metafied')})"
        case "unix":
            return f"json_unix_names[{value}]"
        case "open_file":
            special = f"json_open_file({value}, {at(f'{field.name}_mode')}, {at(f'{field.name}_inode')})"
            return f"(json_names[{value}] if {value}[:1] == b'/' else {special})"
        case "path":
            return f"json_path({value}, {at(f'{field.name}_walked')})"
        case "name" if field.python_type is bytes:
            return f"json_names[{value}]"
        case "name" if field.unique:
            return f"json_once({value}).encode('ascii')"
        case "name":
            return f"json_texts[{value}]"


def cut_marks(event: type[HostEvent]) -> tuple[tuple[int, str], ...]:
    """(bit of `flags`, name in the smith schema) of everything in `event` that can be cut."""
    if not issubclass(event, ProcessEvent):
        return ()
    shape = layout(event)
    return tuple(
        (shape.cut_bit(tail.name), tail.names.smith or tail.name.removesuffix("_path")) for tail in shape.tails
    )
