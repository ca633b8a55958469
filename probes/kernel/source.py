# SPDX-License-Identifier: GPL-2.0-or-later
"""The C text of the enabled probes as one program, fitted to one kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from probes.kernel.btf import Btf
from probes.kernel.features import kernel_version
from probes.kernel.fit import Fitted, merged
from probes.layout import c_header
from probes.probe import Mechanism, TailProgram
from probes.registry import all_events, c_file

_PROBES = Path(__file__).parents[1]

_PREEMPTIBLE_SINCE = (6, 19, 0)
"""Raw tracepoints' programs run with preemption from about there (under SRCU)."""


def structs(fitted: Iterable[Fitted]) -> dict[str, tuple[str, ...]]:
    """Kernel structs and members that the program reads."""
    return merged(each.structs for each in fitted)


def possible_cpus() -> int:
    """CPUs that this kernel may ever run on; per-CPU maps hold as many values."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(text.strip().replace("-", ",").split(",")[-1]) + 1


def compose(fitted: list[Fitted], btf: Btf, *, ring_pages: int) -> str:
    """The program's text; `ring_pages` is a power of two."""
    parts = [
        f"#define HL_RING_PAGES {ring_pages}\n#define HL_CPUS {possible_cpus()}\n#define HL_TAILS {TAIL_SLOTS}\n",
        "".join(_defines(fitted, btf)),
        c_header(all_events()),
    ]
    files = (Path(__file__).with_name("hookline.h"), *(c_file(each.probe) for each in fitted))
    parts += [_text(file) for file in files]
    return "\n".join(parts)


_INCLUDE = re.compile(r'^#include "(\w+/\w+\.h)"$', re.MULTILINE)


def _text(file: Path) -> str:
    """`file` with the headers of the probes' folders that it includes in their place: bcc rewrites one file alone."""
    text = file.read_text(encoding="ascii")

    def included(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 2
        return f'{_text(_PROBES / match[1])}#line {line} "{name}"'

    name = f"{file.parent.name}/{file.name}"
    return f'#line 1 "{name}"\n{_INCLUDE.sub(included, text)}'


def _defines(fitted: list[Fitted], btf: Btf) -> Iterator[str]:
    for tracepoint in sorted({h.target for each in fitted for h in each.hooks if h.mechanism == "raw_tracepoint"}):
        yield f"#define HL_TRACEPOINT_{tracepoint}_{len(btf.tracepoint(tracepoint) or ())} 1\n"
    for enumerator in sorted({name for each in fitted for name in each.probe.enumerators}):
        yield f"#define HL_{enumerator} {btf.enumerator(enumerator)}\n"
    if kernel_version(os.uname().release) >= _PREEMPTIBLE_SINCE:
        yield "#define HL_PREEMPTIBLE 1\n"
    for each in fitted:
        name, form = each.probe.name.upper(), each.form.name.upper()
        yield f"#define HL_FORM_{name}_{form} 1\n#define HL_FORM_{name} HL_BY_{form}\n"
    for tail, slot in tail_slots(fitted).items():
        yield f"#define HL_TAIL_{tail.program.upper()} {slot}\n"


TAIL_MAPS: Mapping[Mechanism, str] = {
    "fentry": "hl_fentry_tails",
    "fexit": "hl_fexit_tails",
    "kprobe": "hl_kprobe_tails",
    "kretprobe": "hl_kprobe_tails",
    "raw_tracepoint": "hl_raw_tails",
    "tracepoint": "hl_tails",
    "uprobe": "hl_kprobe_tails",
    "uretprobe": "hl_kprobe_tails",
}
"""The map that programs of a mechanism call others through; the kernel keeps the types apart."""


STREAMS = 17
"""HL_STREAMS of hookline.h: streams of numbers that are not a CPU's."""

TAIL_SLOTS = 64
"""Entries of each of these maps."""


def tail_slots(fitted: Iterable[Fitted]) -> dict[TailProgram, int]:
    """Each tail program's index in its mechanism's map."""
    slots: dict[TailProgram, int] = {}
    used: dict[str, int] = {}
    for each in fitted:
        for tail in each.tails:
            tail_map = TAIL_MAPS[tail.mechanism]
            slots[tail] = used.get(tail_map, 0)
            used[tail_map] = slots[tail] + 1
    return slots
