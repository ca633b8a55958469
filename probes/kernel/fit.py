# SPDX-License-Identifier: GPL-2.0-or-later
"""Which form of a probe a kernel gets, and what of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from probes.errors import FeatureMissing
from probes.kernel.btf import Btf
from probes.kernel.features import Features
from probes.kernel.headers import declare_structs
from probes.probe import Attach, Form, Hook, Probe, TailProgram

COMMON_STRUCTS: Mapping[str, tuple[str, ...]] = {
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
        "stack",
        "start_boottime|real_start_time",
        "sessionid?",
        "loginuid?",
        "cgroups?",
    ),
    "css_set": ("subsys?",),
    "cgroup_subsys_state": ("cgroup?",),
    "cgroup": ("kn?",),
    "kernfs_node": ("id?",),
    "cred": ("uid", "gid", "euid"),
    "signal_struct": ("pids", "tty"),
    "tty_struct": ("name",),
    "pid": ("level", "numbers"),
    "upid": ("nr", "ns"),
    "pid_namespace": ("ns.inum", "idr.idr_rt.xa_head"),
    "xa_node": ("shift", "slots"),
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
    "pt_regs": ("di", "si", "dx", "r10", "r8", "r9", "ax", "cx"),
}


NONE_REFUSED: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Fitted:
    """One probe as far as this kernel can take it."""

    probe: Probe
    form: Form
    hooks: tuple[Hook, ...]
    tails: tuple[TailProgram, ...]
    missing: tuple[tuple[Hook, str], ...]
    """Hooks left out, with the reason."""

    passed_over: tuple[tuple[Form, str], ...] = ()
    """Better forms, with the reason why they were not taken."""

    @property
    def structs(self) -> Mapping[str, tuple[str, ...]]:
        """Kernel structs and members that its programs read."""
        return merged([COMMON_STRUCTS, self.probe.structs, self.form.structs])


def fit(
    probe: Probe,
    features: Features,
    btf: Btf,
    attach: Attach = "best",
    refused: Mapping[str, str] = NONE_REFUSED,
) -> Fitted:
    """The best form of `probe` that this kernel can take, or the one that `attach` names if the probe has it.

    `refused` are forms that were found not to load, with the reason.

    Raises:
        FeatureMissing: each form lacks a hook or a kernel structure that it cannot do without.
    """
    passed_over: list[tuple[Form, str]] = []
    for form in [form for form in probe.forms if form.name == attach] or probe.forms:
        if form.name in refused:
            passed_over.append((form, refused[form.name]))
            continue
        try:
            fitted = _fit_form(probe, form, features, btf)
        except FeatureMissing as error:
            passed_over.append((form, str(error)))
        else:
            return replace(fitted, passed_over=tuple(passed_over))
    if len(passed_over) == 1:
        raise FeatureMissing(passed_over[0][1])
    raise FeatureMissing("; ".join(f"{form.name}: {reason}" for form, reason in passed_over))


def _fit_form(probe: Probe, form: Form, features: Features, btf: Btf) -> Fitted:
    taken: list[Hook] = []
    missing: list[tuple[Hook, str]] = []
    for hook in form.hooks:
        if hook.unless in (each.program for each in taken):
            continue
        reason = _reason(hook, features, btf)
        if reason is None:
            taken.append(hook)
        elif hook.optional:
            missing.append((hook, reason))
        else:
            raise FeatureMissing(reason)
    if not taken:
        raise FeatureMissing(missing[0][1])
    for enumerator in probe.enumerators:
        if btf.enumerator(enumerator) is None:
            raise FeatureMissing(f"this kernel has no {enumerator}")
    programs = {hook.program for hook in taken}
    tails = tuple(tail for tail in form.tails if not tail.needs or tail.needs in programs)
    fitted = Fitted(probe, form, tuple(taken), tails, tuple(missing))
    declare_structs(btf, fitted.structs)
    return fitted


def _reason(hook: Hook, features: Features, btf: Btf) -> str | None:
    reason = features.missing(hook.mechanism, hook.target)
    for field in hook.fields:
        reason = reason or features.missing("field", f"{hook.target}:{field}")
    for helper in hook.helpers:
        reason = reason or features.missing("helper", helper)
    if reason is None and hook.arguments is not None:
        arguments = btf.tracepoint(hook.target) or ()
        if len(arguments) != hook.arguments:
            return f"the tracepoint {hook.target} of this kernel has another form"
    return reason


def merged(maps: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    merged: dict[str, tuple[str, ...]] = {}
    for each in maps:
        for name, members in each.items():
            merged[name] = (*merged.get(name, ()), *(m for m in members if m not in merged.get(name, ())))
    return merged
