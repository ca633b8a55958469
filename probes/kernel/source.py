# SPDX-License-Identifier: GPL-2.0-or-later
"""The C text of one probe, fitted to one kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from probes.c_header import c_header
from probes.kernel import bpf
from probes.kernel.btf import Btf
from probes.kernel.features import kernel_release, kernel_version
from probes.kernel.fit import Fitted
from probes.kernel.histogram import timed
from probes.kernel.object import KFUNC, RDONLY_CAST, TAIL_MAPS, TAIL_SLOTS
from probes.probe import TailProgram
from probes.registry import c_file

_WORD = "pt_regs"
"""A kernel struct that begins with an integer of 64 bits."""

_PROBES = Path(__file__).parents[1]

_PREEMPTIBLE_SINCE = (6, 19, 0)
"""Raw tracepoints' programs run with preemption from about there (under SRCU)."""


def compose(fitted: Fitted, btf: Btf, *, kinds: Sequence[str], histogram: bool = False) -> str:
    """The program text of one probe; a kind's place among `kinds` is its slot."""
    parts = [
        f"#define HL_RING_PAGES 1\n#define HL_CPUS {bpf.possible_cpus()}\n#define HL_TAILS {TAIL_SLOTS}\n",
        "".join(_defines(fitted, btf)),
        c_header([fitted.probe.event], kinds),
        _text(Path(__file__).with_name("hookline.h")),
    ]
    own = _text(c_file(fitted.probe))
    return "\n".join([*parts, timed(own, fitted) if histogram else own])


_INCLUDE = re.compile(r'^#include "(\w+/\w+\.h)"$', re.MULTILINE)


def _text(file: Path) -> str:
    """`file` with the headers of the probes' folders that it includes in their place: bcc rewrites one file alone."""
    text = file.read_text(encoding="ascii")

    def included(match: re.Match[str]) -> str:
        line = text.count("\n", 0, match.start()) + 2
        return f'{_text(_PROBES / match[1])}#line {line} "{name}"'

    name = f"{file.parent.name}/{file.name}"
    return f'#line 1 "{name}"\n{_INCLUDE.sub(included, text)}'


def _defines(fitted: Fitted, btf: Btf) -> Iterator[str]:
    for tracepoint in sorted({hook.target for hook in fitted.hooks if hook.mechanism == "raw_tracepoint"}):
        yield f"#define HL_TRACEPOINT_{tracepoint}_{len(btf.tracepoint(tracepoint) or ())} 1\n"
    for enumerator in sorted(fitted.probe.enumerators):
        yield f"#define HL_{enumerator} {btf.enumerator(enumerator)}\n"
    if (pids := btf.enumerator("pids_cgrp_id")) is not None:
        yield f"#define HL_pids_cgrp_id {pids}\n"
    for helper in ("get_current_task_btf", "task_pt_regs"):
        if btf.enumerator(f"BPF_FUNC_{helper}") is not None:
            yield f"#define HL_BPF_FUNC_{helper} 1\n"
    if btf.function(RDONLY_CAST) is not None and (word := btf.struct_id(_WORD)) is not None:
        yield f"#define HL_KFUNC_RDONLY_CAST {KFUNC}\n#define HL_TYPE_OF_WORD {word}\n"
    if kernel_version(kernel_release()) >= _PREEMPTIBLE_SINCE:
        yield "#define HL_PREEMPTIBLE 1\n"
    name, form = fitted.probe.name.upper(), fitted.form.name.upper()
    yield f"#define HL_FORM_{name}_{form} 1\n#define HL_FORM_{name} HL_BY_{form}\n"
    for tail, slot in tail_slots(fitted).items():
        yield f"#define HL_TAIL_{tail.program.upper()} {slot}\n"


def tail_slots(fitted: Fitted) -> dict[TailProgram, int]:
    """Each tail program's index in its mechanism's map."""
    slots: dict[TailProgram, int] = {}
    used: dict[str, int] = {}
    for tail in fitted.tails:
        tail_map = TAIL_MAPS[tail.mechanism]
        slots[tail] = used.get(tail_map, 0)
        used[tail_map] = slots[tail] + 1
    return slots
