# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of the host (argv, paths, names) as Unicode text, without loss.

Linux names are bytes; JSON is Unicode. Valid UTF-8 stays what it is. Every
byte that is not part of valid UTF-8 becomes the private-use code point
``U+EF00 + byte`` (U+EF80 to U+EFFF), and so does each byte of an encoded
code point of that same range, which makes the mapping one to one: `to_bytes`
gives back what the kernel sent. Unlike lone surrogates, the result is legal
in every JSON parser, Elasticsearch's among them.
"""

from __future__ import annotations

import codecs
import errno
import re
import stat
import struct
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, ClassVar, Generic, TypeVar
from weakref import ReferenceType, ref

_PRIVATE = re.compile("[\uef80-\uefff]")
_PRIVATE_RUN = re.compile("[\uef80-\uefff]+")
_ERRORS = "hookline-private-use"

_LONGEST = 512

_Key = TypeVar("_Key", bound=bytes | str | tuple[Any, ...])
_Value = TypeVar("_Value")


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    bad = error.object[error.start : error.end]
    return "".join(chr(0xEF00 + byte) for byte in bad), error.end


codecs.register_error(_ERRORS, _replace)


def to_text(raw: bytes) -> str:
    """The text of `raw`; never fails, whatever the bytes."""
    if raw.isascii():
        return raw.decode("ascii")
    if b"\xee\xbe" in raw or b"\xee\xbf" in raw:
        return _with_private_escaped(raw)
    return raw.decode("utf-8", _ERRORS)


def _with_private_escaped(raw: bytes) -> str:
    """As `to_text`, where the input itself may hold code points of the private range."""
    kept = raw.decode("utf-8", "surrogateescape")
    escaped = _PRIVATE.sub(lambda match: "".join(chr(0xDC00 + byte) for byte in match[0].encode("utf-8")), kept)
    return "".join(chr(ord(char) + 0x1300) if "\udc80" <= char <= "\udcff" else char for char in escaped)


def to_bytes(text: str) -> bytes:
    """The bytes that `to_text` made `text` from."""
    return b"".join(
        bytes(ord(char) - 0xEF00 for char in part) if _PRIVATE.match(part) else part.encode("utf-8")
        for part in _split(text)
    )


def _split(text: str) -> list[str]:
    parts: list[str] = []
    at = 0
    for match in _PRIVATE_RUN.finditer(text):
        parts += [text[at : match.start()], match[0]]
        at = match.end()
    return [*parts, text[at:]]


def cstring_text(raw: bytes) -> str:
    """The text of `raw` up to a NUL."""
    return to_text(raw.partition(b"\0")[0])


def unix_text(raw: bytes) -> str:
    """A sun_path: a path up to a NUL, or an abstract name with "@" for its NULs, as in /proc/net/unix."""
    return to_text(raw.replace(b"\0", b"@")) if raw.startswith(b"\0") else cstring_text(raw)


def address_text(family: int, raw: bytes) -> str:
    """The address in `raw` (16 bytes, of v4 the first four); "" of another family."""
    if family == AF_INET:
        return inet_ntop(AF_INET, raw[:4])
    if family == AF_INET6:
        return inet_ntop(AF_INET6, raw)
    return ""


def error_text(result: int) -> str:
    """The name of a negative errno, such as ENOENT; any other number as it is."""
    return errno.errorcode.get(-result, str(result)) if result < 0 else str(result)


def ids_text(raw: bytes) -> str:
    """The ids of a task (`probes.fields.IDS`), as Elkeid writes them: uid|euid|suid|fsuid|gid|egid|sgid|fsgid."""
    return "|".join(str(each) for (each,) in struct.iter_unpack("<I", raw))


_ADDRESS = struct.Struct("<I16s")


def addresses_text(raw: bytes) -> list[str]:
    """The addresses of a tail of that form; a rest that is no whole one is left out."""
    whole = raw[: len(raw) - len(raw) % _ADDRESS.size]
    return [text for family, address in _ADDRESS.iter_unpack(whole) if (text := address_text(family, address))]


_META = re.compile(b"\x83(.?)", re.DOTALL)


def typed_text(raw: bytes, metafied: int) -> str:
    """A line without its end. zsh keeps some bytes as two (Meta in its zsh.h): 0x83, and the byte xored with 32."""
    if metafied:
        raw = _META.sub(lambda match: bytes(byte ^ 32 for byte in match[1]), raw).removesuffix(b"\n")
    return to_text(raw)


def open_file_text(path: bytes, mode: int, inode: int) -> str:
    """`path`, or what readlink of /proc/PID/fd/N says of an open file without one; "" of a closed one."""
    if path.startswith(b"/"):
        return to_text(path)
    if stat.S_ISSOCK(mode):
        return f"socket:[{inode}]"
    if stat.S_ISFIFO(mode):
        return f"pipe:[{inode}]"
    return f"anon_inode:{to_text(path)}" if path.startswith(b"[") else to_text(path)


def path_text(raw: bytes, walked: int) -> str:
    """The path of which the kernel walked the first `walked` bytes, a directory, and the caller named the rest.

    Only what is the same wherever links lead is taken out of the name: "." and doubled slashes. A ".." stays: what
    stands before it may be a link.
    """
    if walked >= len(raw):
        return to_text(raw)
    names = [name for name in raw[walked:].split(b"/") if name not in (b"", b".")]
    return to_text(b"/".join([raw[:walked].rstrip(b"/"), *names])) or "/"


class Remembered(dict[_Key, _Value], Generic[_Key, _Value]):
    """What `make` gives for short keys, ready: the same ones come again and again, and a look-up is cheap.

    Forgets everything at `most` keys, and never keeps one of over 512 bytes or characters: what an attacker can make
    many or long takes little memory.
    """

    __slots__ = ("__weakref__", "_make", "evictions", "misses")

    most: ClassVar[int] = 1024
    """Keys of each."""

    _all: ClassVar[list[ReferenceType[Remembered[Any, Any]]]] = []

    def __init__(self, make: Callable[[_Key], _Value]) -> None:
        self._make: Callable[[_Key], _Value] = make
        self.misses = self.evictions = 0
        self._all.append(ref(self, self._all.remove))

    @classmethod
    def statistics(cls) -> dict[str, int]:
        """Of all that there are. Hits are not counted: a look-up that finds its key runs no code of ours."""
        every = [each for reference in tuple(cls._all) if (each := reference()) is not None]
        return {
            "caches": len(every),
            "size": sum(map(len, every)),
            "misses": sum(each.misses for each in every),
            "evictions": sum(each.evictions for each in every),
        }

    def __missing__(self, key: _Key) -> _Value:
        value = self._make(key)
        self.misses += 1
        if (sum(map(len, key)) if isinstance(key, tuple) else len(key)) <= _LONGEST:
            if len(self) >= self.most:
                self.evictions += len(self)
                self.clear()
            self[key] = value
        return value


def printable(text: str) -> str:
    """`text` for a terminal: control characters and line ends as backslash escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
