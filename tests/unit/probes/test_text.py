# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes of the host as text: nothing is lost, and nothing illegal comes out."""

from __future__ import annotations

import json
import socket
import stat
import struct
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from probes.text import (
    address_text,
    addresses_text,
    cstring_text,
    open_file_text,
    path_text,
    printable,
    to_bytes,
    to_text,
    typed_text,
)

PIECES = st.sampled_from(
    b"\xee\xbe \xee\xbe\x80 \xee\xbf\xbf \xee \xbe \x80 \xff \xed\xa0\x80 \xc0\x80 \xc3\xa4 "
    b"\xf0\x9f\x98\x80 \xf4\x90\x80\x80 \xe2\x82 a \0 \\".split(b" ")
)
HOSTILE = st.one_of(st.binary(), st.lists(PIECES).map(b"".join))
"""Arbitrary bytes, and arbitrary sequences of what UTF-8 and the private range are made of."""

UNICODE = st.text(st.characters(exclude_categories=["Cs"]))


def is_private(char: str) -> bool:
    return "\uef80" <= char <= "\uefff"


@given(HOSTILE)
@example(b"\xee\xbe\x80\xff\xee\xbe")
def test_every_byte_comes_back(raw: bytes) -> None:
    """`to_bytes` gives back what `to_text` was given, so that no two byte strings share a text."""
    assert to_bytes(to_text(raw)) == raw


@given(HOSTILE)
def test_text_is_unicode(raw: bytes) -> None:
    """The text holds no surrogate, so that UTF-8 and every JSON parser take it."""
    text = to_text(raw)
    assert not any(unicodedata.category(char) == "Cs" for char in text)
    assert json.loads(json.dumps(text).encode("ascii")) == text
    assert text.encode("utf-8").decode("utf-8") == text


@given(UNICODE)
def test_valid_utf8_stays(text: str) -> None:
    """Valid UTF-8 outside the private range is what it says."""
    plain = "".join(char for char in text if not is_private(char))
    assert to_text(plain.encode("utf-8")) == plain


@given(UNICODE)
def test_private_range_is_only_for_bytes(text: str) -> None:
    """A code point of the private range in the input is told as its three bytes, and comes back."""
    raw = text.encode("utf-8")
    assert to_bytes(to_text(raw)).decode("utf-8") == text
    assert sum(map(is_private, to_text(raw))) == 3 * sum(map(is_private, text))


def test_a_bad_byte_is_its_code_point() -> None:
    """The documented code point stands for each byte that is not UTF-8: U+EF00 and the byte."""
    assert to_text(b"a\xff\x80b") == "a\uefff\uef80b"
    assert to_text("\uef80".encode()) == "\uefee\uefbe\uef80"


@given(UNICODE)
def test_printable_shows_no_control_character(text: str) -> None:
    """What a terminal gets has no control character, line end, or invisible direction mark."""
    shown = printable(text)
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} for char in shown)
    assert len(shown.splitlines()) <= 1


def test_printable_leaves_words_alone() -> None:
    """Text that people can read is not touched; what they cannot is a backslash escape."""
    assert printable("grüße 日本 -x") == "grüße 日本 -x"
    assert printable("a\x1b[31m\n\u202e") == r"a\x1b[31m\n\u202e"


@given(HOSTILE)
def test_a_cstring_ends_at_its_nul(raw: bytes) -> None:
    """What follows the first NUL is padding."""
    assert to_bytes(cstring_text(raw)) == raw.split(b"\0")[0]


@given(st.binary(min_size=16, max_size=16))
def test_addresses(raw: bytes) -> None:
    """An address is told as inet_ntop(3) tells it, of v4 from its first four bytes; others are empty."""
    assert socket.inet_pton(socket.AF_INET, address_text(socket.AF_INET, raw)) == raw[:4]
    assert socket.inet_pton(socket.AF_INET6, address_text(socket.AF_INET6, raw)) == raw
    assert not address_text(socket.AF_UNIX, raw)


@pytest.mark.parametrize(
    ("path", "mode", "text"),
    [
        (b"/dev/null", stat.S_IFCHR, "/dev/null"),
        (b"", stat.S_IFSOCK | 0o777, "socket:[7]"),
        (b"", stat.S_IFIFO | 0o600, "pipe:[7]"),
        (b"", 0, ""),
        (b"", stat.S_IFREG, ""),
    ],
)
def test_open_files(path: bytes, mode: int, text: str) -> None:
    """A file without a path is told as /proc/PID/fd tells it; a closed one not at all."""
    assert open_file_text(path, mode, 7) == text


@pytest.mark.parametrize(
    ("walked", "named", "text"),
    [
        (b"/", b"/etc/passwd", "/etc/passwd"),
        (b"/", b"", "/"),
        (b"/", b"/", "/"),
        (b"/", b".", "/"),
        (b"/home/me", b"a", "/home/me/a"),
        (b"/home/me", b"", "/home/me"),
        (b"/home/me", b".//./a//b/.", "/home/me/a/b"),
        (b"/home/me", b"a/../b", "/home/me/a/../b"),
        (b"/home/me", b"..", "/home/me/.."),
        (b"/home/me", b".a/...", "/home/me/.a/..."),
        (b"/odd//./walked", b"a", "/odd//./walked/a"),
        (b"", b"a", "/a"),
        (b"/\xff\n", b"\xe9", "/\uefff\n/\uefe9"),
    ],
)
def test_paths_that_the_caller_named_in_part(walked: bytes, named: bytes, text: str) -> None:
    """What the kernel walked stands as it is; of the name only what cannot matter goes, and ".." stays."""
    assert path_text(walked + named, len(walked)) == text


def test_address_lists() -> None:
    """Each whole address of a list is told, in order; a family that is none of ours and a cut end are left out."""
    v4 = struct.pack("<I4s12x", 2, bytes([192, 0, 2, 1]))
    v6 = struct.pack("<I16s", 10, bytes.fromhex("20010db8000000000000000000000007"))
    other = struct.pack("<I16x", 99)
    assert addresses_text(v6 + other + v4 + v4[:19]) == ["2001:db8::7", "192.0.2.1"]
    assert addresses_text(b"") == []


@pytest.mark.parametrize(
    ("raw", "metafied", "text"),
    [
        (b"ls \xe2\x98\x83", 0, "ls \u2603"),
        (b"ls \xe2\x83\xb8\x83\xa3\n", 1, "ls \u2603"),
        (b"true \xc3\x83\xb8\n", 1, "true \u00d8"),
        (b"cut \x83", 1, "cut "),
        (b"\n", 1, ""),
        (b"kept\n", 0, "kept\n"),
    ],
    ids=["bash", "zsh", "two bytes", "cut", "empty", "no end"],
)
def test_typed_lines(raw: bytes, metafied: int, text: str) -> None:
    """A line of zsh is told as it was typed, without its end; one of bash as it is."""
    assert typed_text(raw, metafied) == text
