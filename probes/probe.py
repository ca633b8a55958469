# SPDX-License-Identifier: GPL-2.0-or-later
"""How a probe is declared: its event, where its programs attach, what they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from probes.event import ProcessEvent

Mechanism = Literal["fentry", "fexit", "kprobe", "kretprobe", "raw_tracepoint", "tracepoint", "uprobe", "uretprobe"]
"""How a program is called: also the type of its context in C (see docs/adding-a-probe.md)."""

Ladder = Literal["fentry", "kprobe", "tracepoint", "uprobe"]
"""The forms that a probe can have, by what they attach to; what ``--attach`` takes."""

Attach = Literal["best", "fentry", "kprobe", "tracepoint", "uprobe"]
"""Which form of a probe to take where it has it; "best": the first that this kernel can."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files that a user probe attaches to, wherever they are found: on the host and in every container."""

    name: str
    """For people."""

    names: str
    """A regular expression that the whole base name of a file matches which a process maps."""

    places: tuple[str, ...] = ()
    """Where such a file may lie in a root though no process maps it yet; ``*`` is any name, or part of one.

    One that begins with ``../`` begins where a process's executable lies.
    """

    programs: str = ""
    """A regular expression for the base names of executables that use such a file: run first, they are looked at."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A program and the place that calls it."""

    program: str
    """Name of the C function."""

    mechanism: Mechanism
    target: str
    """A raw tracepoint's name, a tracepoint's category:name, a kernel function's name, or a function's in `files`.

    A file's function may have several spellings (``new|old``), of which the first that a file has is taken.
    """

    files: Files | None = None
    """With a uprobe or uretprobe: what it is attached to, by the collector itself, as such files are found."""

    arguments: int | None = None
    """The number of arguments that the raw tracepoint must have; on other kernels it has another shape."""

    fields: tuple[str, ...] = ()
    """Fields that the tracepoint's record must have; on other kernels it has another shape."""

    helpers: tuple[str, ...] = ()
    """BPF helpers beyond those of Linux 5.8 that the program calls, without their ``bpf_``."""

    optional: bool = False
    """Whether the probe is worth running without it."""

    unless: str = ""
    """The program of an earlier hook that sees the same: where that is taken, this one is left out."""

    sees: str = ""
    """What this hook sees, for people; with `optional`, what is missed where it is absent."""

    @property
    def at(self) -> str:
        target = f"{self.files.name}:{self.target}" if self.files is not None else self.target
        return f"{self.mechanism}:{target}"


@dataclass(frozen=True, slots=True)
class TailProgram:
    """A program that others call by ``HL_TAIL_`` and its name in capitals."""

    program: str
    mechanism: Mechanism
    needs: str = ""
    """The hook's program without which it is left out."""


@dataclass(frozen=True, slots=True)
class Form:
    """One way to see an event. In C it is ``HL_FORM_`` with the event's name and its own, in capitals."""

    name: Ladder
    hooks: tuple[Hook, ...]
    tails: tuple[TailProgram, ...] = ()
    structs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """As `Probe.structs`, for this form alone."""

    misses: str = ""
    """What this form cannot see, for the documentation and ``hookline doctor``."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One pair of files below ``probes/``: NAME.py, which holds this, and NAME.c."""

    event: type[ProcessEvent]
    forms: tuple[Form, ...]
    """Best first. The first of which the kernel has all hooks, but for optional ones, is taken."""

    structs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kernel structs and members that NAME.c reads, beside the common ones; see `probes.kernel.headers`."""

    enumerators: tuple[str, ...] = ()
    """Kernel enumerators that NAME.c uses, each as ``HL_`` and its name."""

    default: bool = True
    """Whether it is loaded where the configuration says "default"."""

    @property
    def name(self) -> str:
        return self.event.event_name
