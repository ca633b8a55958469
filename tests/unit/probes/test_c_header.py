# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated C header, asked through a C compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from probes.c_header import c_header
from probes.event import ProcessEvent
from probes.fields import u8, u64
from probes.layout import Layout, layout
from tests.unit.probes import wire
from tests.unit.probes.declarations import any_declaration, declare, named, tail

GCC = shutil.which("gcc")
needs_gcc = pytest.mark.skipif(GCC is None, reason="needs gcc as a second opinion on offsets")

PRELUDE = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int32_t s32; typedef int64_t s64;
"""


def ask_c(folder: Path, events: Iterable[type[ProcessEvent]], questions: Iterable[str]) -> list[int]:
    """The values of C expressions behind the header of `events`."""
    assert GCC is not None
    prints = "".join(f'printf("%llu\\n", (unsigned long long)({each}));' for each in questions)
    source, program = folder / "ask.c", folder / "ask"
    source.write_text(f"{PRELUDE}{c_header(events)}int main(void) {{ {prints} return 0; }}\n", encoding="ascii")
    subprocess.run([GCC, "-Wall", "-Werror", "-o", program, source], check=True, timeout=60)
    answer = subprocess.run([program], check=True, timeout=60, capture_output=True, text=True)
    return [int(line) for line in answer.stdout.split()]


def expected(shape: Layout) -> dict[str, int]:
    """C expressions and what `shape` says of them."""
    name = shape.event.event_name
    header = {f"offsetof(struct hl_header, {m.name})": m.offset for m in shape.header}
    body = {f"sizeof(struct hl_header) + offsetof(struct hl_{name}, {m.name})": m.offset for m in shape.body}
    cuts = {f"HL_{name}_{tail.name}_CUT".upper(): shape.cut_bit(tail.name) for tail in shape.tails}
    limits = {f"HL_{name}_{tail.name}_MAX".upper(): tail.tail.limit for tail in shape.tails if tail.tail is not None}
    numbers = {f"HL_KIND_{name.upper()}": shape.event.data_type, f"HL_SIZE_{name.upper()}": shape.size}
    return {"sizeof(struct hl_header)": shape.header_size, **header, **body, **cuts, **limits, **numbers}


@needs_gcc
def test_a_compiler_agrees_with_every_offset(tmp_path: Path) -> None:
    """Of every probe, C sees each member, size, limit, bit and number where the decoder looks for it."""
    wanted: dict[str, int] = {}
    for event in wire.EVENTS:
        wanted |= expected(layout(event))
    assert dict(zip(wanted, ask_c(tmp_path, wire.EVENTS, wanted), strict=True)) == wanted


@needs_gcc
@settings(
    max_examples=20,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(any_declaration(), min_size=1, max_size=1))
def test_a_compiler_agrees_with_any_declaration(tmp_path: Path, events: list[type[ProcessEvent]]) -> None:
    """Whatever is declared, C's offsets are the decoder's."""
    wanted = expected(layout(events[0]))
    assert ask_c(tmp_path, events, wanted) == list(wanted.values())


@needs_gcc
def test_a_compiler_refuses_another_offset(tmp_path: Path) -> None:
    """The header carries its offsets as assertions, so that a compiler with other rules fails."""
    text = c_header([declare(("a", named(u8)), ("b", named(u64)))])
    assert "offsetof(struct hl_made_up, b) == 8" in text
    (tmp_path / "bad.c").write_text(PRELUDE + text.replace("b) == 8", "b) == 1"), encoding="ascii")
    assert GCC is not None
    run = subprocess.run([GCC, "-c", "-o", "/dev/null", "bad.c"], cwd=tmp_path, capture_output=True, check=False)
    assert run.returncode
    assert b"made_up.b" in run.stderr


def test_slots_follow_the_numbers() -> None:
    """A kind's place among the counters is its place in the order of the numbers, however they are given."""
    low, high = declare(name="low", number=5), declare(name="high", number=9)
    text = c_header([high, low])
    assert re.findall(r"#define HL_SLOT_(\w+) (\d+)", text) == [("LOW", "0"), ("HIGH", "1")]
    assert "#define HL_SLOTS 2\n" in text


def test_there_is_always_a_slot() -> None:
    """Without any event the counters' map still has the one entry that a map needs."""
    assert "#define HL_SLOTS 1\n" in c_header([])


def test_padding_is_explicit() -> None:
    """A gap before an aligned member is a member of its own: the kernel's memory never leaks through it."""
    text = c_header([declare(("a", named(u8)), ("b", named(u64)), ("t", tail()))])
    assert re.search(r"\tu8 a;\n\tu8 pad_\d+\[7\];\n\tu64 b;\n\tu32 t_length;\n", text)
