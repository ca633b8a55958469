# SPDX-License-Identifier: GPL-2.0-or-later
"""The C text of the enabled probes as one program, fitted to one kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from probes.errors import FeatureMissing
from probes.kernel.btf import Btf
from probes.kernel.features import Features
from probes.kernel.headers import declare_structs
from probes.layout import c_header
from probes.probe import Hook, Probe, TailProgram
from probes.registry import all_events, c_file

_PROBES = Path(__file__).parents[1]

_COMMON_STRUCTS: Mapping[str, tuple[str, ...]] = {
    "task_struct": (
        "pid",
        "tgid",
        "group_leader",
        "real_parent",
        "cred",
        "signal",
        "mm",
        "fs",
        "files",
        "nsproxy",
        "thread_pid",
        "start_boottime|real_start_time",
        "sessionid?",
        "loginuid?",
    ),
    "cred": ("uid", "gid", "euid"),
    "signal_struct": ("pids", "tty"),
    "tty_struct": ("name",),
    "pid": ("level", "numbers"),
    "upid": ("nr", "ns"),
    "pid_namespace": ("ns.inum",),
    "mnt_namespace": ("ns.inum",),
    "uts_namespace": ("name.nodename",),
    "nsproxy": ("mnt_ns", "uts_ns"),
    "mm_struct": ("exe_file",),
    "files_struct": ("fdt",),
    "fdtable": ("fd", "max_fds"),
    "file": ("f_path", "f_inode"),
    "inode": (
        "i_ino",
        "i_sb",
        "i_size",
        "i_ctime_sec|i_ctime.tv_sec|__i_ctime.tv_sec",
        "i_ctime_nsec|i_ctime.tv_nsec|__i_ctime.tv_nsec",
        "i_mtime_sec|i_mtime.tv_sec|__i_mtime.tv_sec",
        "i_mtime_nsec|i_mtime.tv_nsec|__i_mtime.tv_nsec",
    ),
    "super_block": ("s_dev",),
    "path": ("mnt", "dentry"),
    "dentry": ("d_parent", "d_name"),
    "qstr": ("len", "name"),
    "vfsmount": ("mnt_root",),
    "mount": ("mnt", "mnt_parent", "mnt_mountpoint"),
    "pt_regs": ("di", "si", "dx"),
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """One probe as far as this kernel can take it."""

    probe: Probe
    hooks: tuple[Hook, ...]
    tails: tuple[TailProgram, ...]
    missing: tuple[tuple[Hook, str], ...]
    """Hooks left out, with the reason."""


def fit(probe: Probe, features: Features, btf: Btf) -> Fitted:
    """What of `probe` this kernel can take.

    Raises:
        FeatureMissing: a hook or a kernel structure that the probe cannot do without is absent.
    """
    taken: list[Hook] = []
    missing: list[tuple[Hook, str]] = []
    for hook in probe.hooks:
        reason = _reason(hook, features, btf)
        if reason is None:
            taken.append(hook)
        elif hook.optional:
            missing.append((hook, reason))
        else:
            raise FeatureMissing(reason)
    declare_structs(btf, _merged([probe]))
    for enumerator in probe.enumerators:
        if btf.enumerator(enumerator) is None:
            raise FeatureMissing(f"this kernel has no {enumerator}")
    programs = {hook.program for hook in taken}
    tails = tuple(tail for tail in probe.tails if not tail.needs or tail.needs in programs)
    return Fitted(probe, tuple(taken), tails, tuple(missing))


def _reason(hook: Hook, features: Features, btf: Btf) -> str | None:
    reason = features.missing(hook.mechanism, hook.target)
    for helper in hook.helpers:
        reason = reason or features.missing("helper", helper)
    if reason is None and hook.arguments is not None:
        arguments = btf.tracepoint(hook.target) or ()
        if len(arguments) != hook.arguments:
            return f"the tracepoint {hook.target} of this kernel has another form"
    return reason


def _merged(probes: Iterable[Probe]) -> dict[str, tuple[str, ...]]:
    merged = dict(_COMMON_STRUCTS)
    for probe in probes:
        for name, members in probe.structs.items():
            merged[name] = (*merged.get(name, ()), *(m for m in members if m not in merged.get(name, ())))
    return merged


def structs(fitted: Iterable[Fitted]) -> dict[str, tuple[str, ...]]:
    """Kernel structs and members that the program reads."""
    return _merged(each.probe for each in fitted)


def possible_cpus() -> int:
    """CPUs that this kernel may ever run on; per-CPU maps hold as many values."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(text.strip().replace("-", ",").split(",")[-1]) + 1


def compose(fitted: list[Fitted], btf: Btf, *, ring_pages: int) -> str:
    """The program's text; `ring_pages` is a power of two."""
    parts = [
        f"#define HL_RING_PAGES {ring_pages}\n#define HL_CPUS {possible_cpus()}\n",
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
    for tail, slot in tail_slots(fitted).items():
        yield f"#define HL_TAIL_{tail.program.upper()} {slot}\n"


def tail_slots(fitted: Iterable[Fitted]) -> dict[TailProgram, int]:
    """Each tail program's index in its mechanism's map."""
    slots: dict[TailProgram, int] = {}
    used: dict[str, int] = {}
    for each in fitted:
        for tail in each.tails:
            slots[tail] = used.get(tail.mechanism, 0)
            used[tail.mechanism] = slots[tail] + 1
    return slots
