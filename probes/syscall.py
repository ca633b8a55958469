# SPDX-License-Identifier: GPL-2.0-or-later
"""Hooks and forms that several probes of plain system calls have alike."""

from __future__ import annotations

from collections.abc import Iterable

from probes.probe import Form, Hook, TailProgram


def returns(program: str, *calls: str, optional: bool = False) -> tuple[Hook, ...]:
    """`program` at the return of each of the system calls."""
    return tuple(
        Hook(
            program,
            "tracepoint",
            f"syscalls:sys_exit_{call}",
            optional=optional,
            sees=f"{call}(2)",
        )
        for call in calls
    )


def function_forms(
    name: str, targets: Iterable[str], *, sees: str, misses: str, report: bool = True
) -> tuple[Form, ...]:
    """The fentry and the kprobe form of a probe: NAME_asked at each kernel function, and NAME_report behind it."""
    return tuple(
        Form(
            mechanism,
            hooks=tuple(Hook(f"{name}_asked", mechanism, target, sees=sees) for target in targets),
            tails=(TailProgram(f"{name}_report", mechanism),) if report else (),
            misses=misses,
        )
        for mechanism in ("fentry", "kprobe")
    )
