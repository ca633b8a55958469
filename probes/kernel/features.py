# SPDX-License-Identifier: GPL-2.0-or-later
"""What this host and this kernel offer to probes: can anything run at all, and which hooks exist."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from probes.errors import LoadError, PreflightError
from probes.kernel.btf import VMLINUX
from probes.kernel.program import RETURN_ZERO, load

if TYPE_CHECKING:
    from probes.kernel.btf import Btf

_OLDEST_KERNEL = (5, 8, 0)  # BPF_MAP_TYPE_RINGBUF
# Bits of CapEff, from include/uapi/linux/capability.h.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 1, 2, 21, 38, 39
_FIRST_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""

_ALL_IDS = "4294967295"


def kernel_release() -> str:
    """As ``uname -r`` has it. From /proc as all else, so that a compiler can be shown another kernel."""
    return Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii").strip()


def kernel_version(release: str) -> tuple[int, int, int]:
    """Version, patch level and sublevel of a ``uname -r`` such as ``6.1.0-13-amd64``; zeros if unreadable."""
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look, and who asks. ``Host.current()`` is this machine; tests build others.

    ``capabilities`` is the effective set as the kernel's bit mask. ``user_namespace`` is true for a process
    whose capabilities hold only inside a user namespace. ``bcc`` lists the folders of the importable package
    ``bcc`` (none for a single file) and is None if there is no such package.
    """

    system: str
    machine: str
    release: str
    uid: int
    capabilities: int
    user_namespace: bool
    bcc: tuple[Path, ...] | None
    pid_namespace: int = _FIRST_PID_NAMESPACE
    """Inode of this process's pid namespace."""

    btf: Path = VMLINUX
    tracefs: tuple[Path, ...] = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
    event_sources: Path = Path("/sys/bus/event_source/devices")
    symbols: Path = Path("/proc/kallsyms")

    @classmethod
    def current(cls) -> Host:
        """The machine and the process that this runs in; imports nothing of bcc."""
        uname = os.uname()
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
        spec = find_spec("bcc")
        return cls(
            system=uname.sysname,
            machine=uname.machine,
            release=kernel_release(),
            uid=os.geteuid(),
            capabilities=int(effective[1], 16) if effective else 0,
            user_namespace=_in_user_namespace(Path("/proc/self/uid_map")),
            bcc=tuple(map(Path, spec.submodule_search_locations or ())) if spec else None,
            pid_namespace=os.stat("/proc/self/ns/pid").st_ino,
        )

    def events(self) -> Path | None:
        """The folder of tracepoints, in the first place where tracefs is mounted; None if this user sees none."""
        folders = (place / "events" for place in self.tracefs)
        return next((folder for folder in folders if os.path.isdir(folder)), None)


def preflight(host: Host | None = None) -> None:
    """Raise ``PreflightError``, one sentence with the remedy, for the first reason why no probe can run."""
    host = host or Host.current()
    for check in (
        _check_privileges,
        _check_pid_namespace,
        _check_machine,
        _check_btf,
        _check_bcc,
        _check_tracefs,
        _check_version,
    ):
        check(host)


@dataclass(frozen=True, slots=True)
class Features:
    """The hooks that a kernel has.

    ``tracepoints`` are ``category:name`` as in tracefs, such as ``syscalls:sys_exit_connect``. ``helpers``
    are BPF helpers without ``bpf_``, such as ``task_pt_regs``; they come from the kernel's own list (``enum
    bpf_func_id`` in BTF), which knows what a distribution ported back, unlike a table of versions.
    """

    release: str
    raw_tracepoints: frozenset[str]
    tracepoints: frozenset[str]
    helpers: frozenset[str]
    has_kprobes: bool
    has_uprobes: bool
    has_function: Callable[[str], bool] = bool
    """Whether this kernel function can be named, by BTF or among all symbols."""

    try_tracing: Callable[[str], str] = lambda _function: ""
    """Why an fentry program for a function (in BTF) is refused, found by trying; empty if it is not."""

    has_field: Callable[[str, str], bool] = lambda _tracepoint, _field: True
    """Whether the record of a tracepoint (CATEGORY:NAME) has a field."""

    @classmethod
    def probe(cls, host: Host, btf: Btf) -> Features:
        """Look at ``host``, of which ``btf`` is the type information; ``BtfError`` if that is malformed."""
        events = host.events()
        return cls(
            release=host.release,
            raw_tracepoints=btf.tracepoints(),
            tracepoints=_tracepoints(events) if events else frozenset(),
            helpers=frozenset(name.removeprefix("BPF_FUNC_") for name in btf.enum("bpf_func_id") or ()),
            has_kprobes=(host.event_sources / "kprobe").exists(),
            has_uprobes=(host.event_sources / "uprobe").exists(),
            has_function=lambda name: btf.function(name) is not None or name in _symbols(host.symbols),
            try_tracing=cache(partial(_try_tracing, btf)),
            has_field=partial(_has_field, events) if events else lambda _tracepoint, _field: False,
        )

    def missing(self, mechanism: str, target: str) -> str | None:
        """Why the kernel cannot serve ``mechanism`` for ``target``; None if it can.

        Mechanisms and their targets: ``raw_tracepoint`` NAME, ``tracepoint`` CATEGORY:NAME, ``fentry``,
        ``fexit``, ``kprobe`` and ``kretprobe`` FUNCTION, ``uprobe`` and ``uretprobe`` PATH:OFFSET (which is not
        looked up), ``helper`` NAME, ``field`` CATEGORY:NAME:FIELD. ``ValueError`` for another mechanism.
        """
        match mechanism:
            case "raw_tracepoint":
                found, reason = target in self.raw_tracepoints, f"this kernel has no raw tracepoint {target}"
            case "tracepoint":
                found, reason = target in self.tracepoints, self._no_tracepoint(target)
            case "fentry" | "fexit":
                return self.try_tracing(target) or None
            case "kprobe" | "kretprobe" if self.has_kprobes:
                found, reason = self.has_function(target), f"this kernel has no function {target}"
            case "kprobe" | "kretprobe":
                found, reason = False, "this kernel has no kprobes (CONFIG_KPROBE_EVENTS is off)"
            case "uprobe" | "uretprobe":
                found, reason = self.has_uprobes, "this kernel has no uprobes (CONFIG_UPROBE_EVENTS is off)"
            case "field":
                tracepoint, _, field = target.rpartition(":")
                found, reason = self.has_field(tracepoint, field), f"{tracepoint} of this kernel has no field {field}"
            case "helper":
                found, reason = target in self.helpers, f"this kernel ({self.release}) has no bpf_{target}()"
            case _:
                raise ValueError(f"unknown mechanism {mechanism!r}")
        return None if found else reason

    def _no_tracepoint(self, target: str) -> str:
        if not self.tracepoints:
            return "no tracepoints can be seen: tracefs is not mounted"
        if target.startswith("syscalls:") and not any(name.startswith("syscalls:") for name in self.tracepoints):
            return "this kernel has no system call tracepoints (CONFIG_FTRACE_SYSCALLS is off)"
        return f"this kernel has no tracepoint {target}"


@cache
def _symbols(path: Path) -> frozenset[str]:
    """Functions of the kernel and its modules; a compiler's clone (NAME.isra.0) goes by another name."""
    with path.open(encoding="ascii", errors="replace") as lines:
        fields = (line.split(None, 3) for line in lines)
        return frozenset(field[2] for field in fields if field[1] in "tT")


def _try_tracing(btf: Btf, function: str) -> str:
    number = btf.function(function)
    if number is None:
        return f"this kernel has no function {function} that BTF knows"
    if kernel_release() != os.uname().release:  # the compiler is shown another kernel, which is not there to ask
        return ""
    try:
        os.close(load("fentry", "hl_try", RETURN_ZERO, number))
    except LoadError as error:
        refused = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EPERM
        return "this kernel refuses fentry programs" if refused else f"{function} cannot be traced ({error})"
    return ""


def _tracepoints(events: Path) -> frozenset[str]:
    found = []
    with os.scandir(events) as categories:
        for category in categories:
            if category.is_dir():
                with os.scandir(category.path) as names:
                    found += [f"{category.name}:{name.name}" for name in names if name.is_dir()]
    return frozenset(found)


def _has_field(events: Path, tracepoint: str, field: str) -> bool:
    text = (events / tracepoint.replace(":", "/") / "format").read_text(encoding="ascii", errors="replace")
    return re.search(rf"^\tfield:[^;]*\b{field}(\[[^]]*\])?;", text, re.MULTILINE) is not None


def _in_user_namespace(uid_map: Path) -> bool:
    """The first namespace maps every user id to itself; a kernel without namespaces has no such file."""
    try:
        ranges = [line.split() for line in uid_map.read_text(encoding="ascii").splitlines()]
    except FileNotFoundError:
        return False
    return ranges != [["0", "0", _ALL_IDS]]


def _check_privileges(host: Host) -> None:
    def lacks(*any_of: int) -> bool:
        return not any(host.capabilities >> bit & 1 for bit in any_of)

    needs = {"CAP_BPF": lacks(_CAP_BPF, _CAP_SYS_ADMIN), "CAP_PERFMON": lacks(_CAP_PERFMON, _CAP_SYS_ADMIN)}
    if host.uid != 0:  # tracefs and BTF of other modes than the default belong to root
        needs["CAP_DAC_READ_SEARCH"] = lacks(_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE)
    lacking = " and ".join(name for name, is_lacking in needs.items() if is_lacking)
    if lacking and host.uid != 0:
        raise PreflightError(f"user {host.uid} lacks {lacking}: run Hookline as root (sudo) or grant them in its unit")
    if lacking:
        raise PreflightError(f"root lacks {lacking} here, as in a container: run the container with --privileged")
    if host.user_namespace:
        raise PreflightError("privileges end at this user namespace: run Hookline as root of the host itself")


def _check_pid_namespace(host: Host) -> None:
    if host.pid_namespace != _FIRST_PID_NAMESPACE:
        raise PreflightError(
            "this process is in a pid namespace of its own, where the kernel's process ids mean others: "
            "run Hookline on the host, or its container with --pid=host"
        )


def _check_machine(host: Host) -> None:
    if (host.system, host.machine) != ("Linux", "x86_64"):
        here = f"{host.system} on {host.machine}"
        raise PreflightError(f"only x86-64 Linux is supported so far and this is {here}: use an x86-64 host")


def _check_btf(host: Host) -> None:
    if not host.btf.is_file():
        raise PreflightError(f"{host.btf} is missing: boot a kernel built with CONFIG_DEBUG_INFO_BTF=y")


def _check_bcc(host: Host) -> None:
    remedy = "apt-get install python3-bpfcc, and run with /usr/bin/python3 or a --system-site-packages venv of it"
    if host.bcc is None:
        raise PreflightError(f"the Python package bcc is not there: {remedy}")
    # PyPI has an unrelated bcc; importing to find out would cost 50 MB.
    if not any((folder / "libbcc.py").is_file() for folder in host.bcc):
        where = ", ".join(map(str, host.bcc)) or "a single file"
        raise PreflightError(f"the Python package bcc ({where}) is not the BPF one: pip uninstall bcc, then {remedy}")


def _check_tracefs(host: Host) -> None:
    if host.events() is not None:
        return
    place = host.tracefs[0]
    if os.path.isdir(place) and not os.access(place, os.X_OK, effective_ids=True):
        raise PreflightError(f"{place} may not be read by this user: run Hookline as root (sudo)")
    raise PreflightError(f"tracefs is not mounted: mount -t tracefs tracefs {place}")


def _check_version(host: Host) -> None:
    if kernel_version(host.release) < _OLDEST_KERNEL:
        raise PreflightError(f"Linux {host.release} has no BPF ring buffer: boot Linux 5.8 or later")
