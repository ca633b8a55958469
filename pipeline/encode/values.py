# SPDX-License-Identifier: GPL-2.0-or-later
"""Single values as JSON, for the generated encoders: expressions and what they call."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Generic, TypeVar

from probes.event import Chars, HostEvent, Ip, ProcessEvent
from probes.layout import Field, layout
from probes.text import address_text, cstring_text, open_file_text, to_text, unix_text

_REMEMBERED = 4096
_LONGEST = 256
"""Characters; what an attacker can make long is not remembered."""

_Key = TypeVar("_Key", bytes, str)


def quote(text: str) -> bytes:
    """`text` as a JSON string in ASCII."""
    return encode_basestring_ascii(text).encode("ascii")


class Quoted(dict[_Key, bytes], Generic[_Key]):
    """Short texts as JSON strings, ready: the same ones come again and again, and a look-up is cheap."""

    def __init__(self, text: Callable[[_Key], str], absent: bytes) -> None:
        self._text: Callable[[_Key], str] = text
        self._absent = absent

    def __missing__(self, key: _Key) -> bytes:
        text = self._text(key)
        quoted = quote(text) if text else self._absent
        if len(key) <= _LONGEST:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[key] = quoted
        return quoted


def argv_text(argv: bytes) -> str:
    """Arguments as one text, each ended by a space."""
    return to_text(argv.replace(b"\0", b" "))


def namespace(absent: bytes) -> dict[str, Any]:
    """What the expressions of `text_expression` call; `absent` is the JSON of what is not known."""

    @lru_cache(_REMEMBERED)
    def address(family: int, raw: bytes) -> bytes:
        text = address_text(family, raw)
        return quote(text) if text else absent

    def open_file(path: bytes, mode: int, inode: int) -> bytes:
        text = open_file_text(path, mode, inode)
        return quote(text) if text else absent

    return {
        "ascii_json": encode_basestring_ascii,
        "quote": quote,
        "argv_text": argv_text,
        "names": Quoted[bytes](to_text, absent),
        "cstrings": Quoted[bytes](cstring_text, absent),
        "unix_names": Quoted[bytes](unix_text, absent),
        "texts": Quoted[str](str, absent),
        "address": address,
        "open_file": open_file,
    }


def text_expression(field: Field) -> str:
    """An expression over the event ``e`` that gives the JSON of a text field, as bytes."""
    value = f"e.{field.name}"
    match field.wire:
        case Chars():
            return f"cstrings[{value}]"
        case Ip(family=family):
            return f"address(e.{family}, {value})"
    form = field.tail.form if field.tail is not None else "name"
    match form:
        case "argv":
            # Nearly all arguments are ASCII, and are spared three calls.
            return (
                f"ascii_json({value}.replace(b'\\0', b' ').decode('ascii')).encode('ascii')"
                f" if {value}.isascii() else quote(argv_text({value}))"
            )
        case "unix":
            return f"unix_names[{value}]"
        case "open_file":
            special = f"open_file({value}, {value}_mode, {value}_inode)"
            return f"(names[{value}] if {value}[:1] == b'/' else {special})"
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
