# SPDX-License-Identifier: GPL-2.0-or-later
"""An event as a line for people."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.console.line import LineWriter, cut, printable
from tests.unit.sinks.doubles import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

any_text = st.text(st.characters(), max_size=60)


@pytest.fixture
def _in_kathmandu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


def render(*events: Event, columns: int | None = None, colour: bool = False) -> str:
    return LineWriter(colour=colour).render(events, 1_699_000_000_000_000_000, columns).decode()


@pytest.mark.usefixtures("_in_kathmandu")
def test_local_time_name_summary() -> None:
    """A line is the local time to the millisecond, the padded name, and the summary."""
    assert render(Event(), Event(time_ns=1_000_001_000_999_999, text="x")) == (
        "03:58:20.123 execve           ls -l\n03:58:21.000 execve           x\n"
    )


def test_colour_depends_on_the_kind_alone() -> None:
    """Events of a kind share a colour, its neighbour has another, and the colour ends with the name."""
    lines = render(Event(kind=1, text="a"), Event(kind=1, text="b"), Event(kind=2, text="c"), colour=True)
    colours = [re.findall("\x1b\\[[0-9;]*m", line) for line in lines.splitlines()]
    assert colours[0] == colours[1] != colours[2]
    assert all(colour[-1] == "\x1b[0m" and len(colour) == 2 for colour in colours)
    assert re.search("execve *\x1b\\[0m a$", lines.splitlines()[0])


def test_colour_takes_no_columns() -> None:
    """The same characters are seen with and without colour, also where the line is cut."""
    event = Event(text="word " * 40)
    for columns in range(100):
        coloured = render(event, columns=columns, colour=True)
        assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == render(event, columns=columns)


def test_cut_to_the_width() -> None:
    """A line that is too long ends in an ellipsis in the last column; one that just fits is left alone."""
    line = render(Event(text="x" * 10)).rstrip("\n")
    assert render(Event(text="x" * 10), columns=len(line)) == line + "\n"
    assert render(Event(text="x" * 11), columns=len(line)) == line[:-1] + "…\n"


def test_wide_characters_count_twice() -> None:
    """Cells are counted, not characters: CJK takes two, a combining accent none."""
    assert cut("日本語", 6) == "日本語"
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"
    assert cut("e\u0301" * 4, 4) == "e\u0301" * 4
    assert cut("e\u0301" * 4, 3) == "e\u0301" * 2 + "…"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\ufeff\udcff", r"\u2028\ufeff\udcff"),
        ("\U000e0041", r"\U000e0041"),
        ("naïve 日本", "naïve 日本"),
    ],
)
def test_hostile_characters(hostile: str, shown: str) -> None:
    """Escape sequences, line ends, bidirectional overrides and lone surrogates are shown, not obeyed."""
    assert printable(hostile) == shown


@given(any_text, any_text, st.one_of(st.none(), st.integers(-5, 100)))
def test_no_control_character_gets_through(name: str, summary: str, columns: int | None) -> None:
    """Whatever an event says of itself, its line is one line of printable UTF-8."""
    line = render(Event(label=name, text=summary), columns=columns)
    assert line.endswith("\n")
    assert line[:-1].isprintable()


@given(any_text.map(printable), st.integers(0, 40))
def test_cut_keeps_its_promise(text: str, columns: int) -> None:
    """Cut text is never wider than asked, and a beginning of the text, with an ellipsis if not all of it."""
    result = cut(text, columns)
    cells = sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in result
    )
    assert cells <= columns
    assert result == text or text.startswith(result.removesuffix("…"))
