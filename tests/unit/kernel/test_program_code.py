# SPDX-License-Identifier: GPL-2.0-or-later
"""What is put into a program's instructions after it is compiled."""

from __future__ import annotations

import re
import struct

from probes.kernel.object import KFUNC, relocations, with_kfunc
from probes.registry import all_probes, c_file

_INSTRUCTION = struct.Struct("<BBhi")


def test_calls_of_a_function_of_the_kernel() -> None:
    """A call of the number that stands for it becomes one of the kernel's function; helpers and constants stay."""
    load = _INSTRUCTION.pack(0x18, 0x11, 0, 7) + _INSTRUCTION.pack(0, 0, 0, 0)
    constant, helper = _INSTRUCTION.pack(0xB7, 1, 0, KFUNC), _INSTRUCTION.pack(0x85, 0, 0, 113)
    code = load + constant + helper + _INSTRUCTION.pack(0x85, 0, 0, KFUNC)
    done = with_kfunc(code, 65477)
    assert done == load + constant + helper + _INSTRUCTION.pack(0x85, 0x20, 0, 65477)
    assert relocations(done, {7: "hl_events"}) == ((0, "hl_events"),)


def test_stacks_of_uprobes() -> None:
    """Every program of a uprobe has its task's stack: two that are preempted would share the one of their CPU."""
    bodies = {
        hook.program: re.findall(
            rf"^int {hook.program}\(.*?\n\}}\n", c_file(probe).read_text(), re.MULTILINE | re.DOTALL
        )
        for probe in all_probes().values()
        for form in probe.forms
        for hook in form.hooks
        if hook.files is not None
    }
    assert len(bodies) >= 7
    assert [program for program, (body,) in bodies.items() if "hl_use_stack_of_task(ctx);" not in body] == []
