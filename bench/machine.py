# SPDX-License-Identifier: GPL-2.0-or-later
"""Where figures were taken, and what makes them doubtful."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

_ROOT = Path(__file__).parents[1]
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter")
_BUSY = 0.1
"""Share of the CPUs' time before the start above which others had a part in the figures."""

_LOOK_S = 1.0

_STOLEN = 0.01
"""Share of the time that the hypervisor took away."""


class Machine(msgspec.Struct, frozen=True):
    """The machine, the kernel and the versions."""

    cpu: str
    cpus: int
    mhz: float
    memory_mib: int
    is_virtual: bool
    kernel: str
    kernel_version: str
    clock: str
    mitigations: str
    python: str
    bcc: str
    hookline: str
    commit: str
    """Of git, with -dirty where files differ other than `bench/results`; empty without git."""

    started: str
    """UTC, ISO 8601."""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return ""


def commit(root: Path) -> str:
    """The commit of a checkout, as `Machine.commit`."""

    def git(*arguments: str) -> str:
        command = ["/usr/bin/git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    with suppress(OSError, subprocess.CalledProcessError):
        # `make bench` writes one result after the other: none has a part in the next.
        differs = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!bench/results")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if differs else "")
    return ""


def _version(package: str) -> str:
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def machine() -> Machine:
    """This machine, now."""
    cpuinfo = _read("/proc/cpuinfo")

    def of_cpu(name: str) -> str:
        found = re.search(rf"^{name}\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
        return found[1] if found else ""

    command_line = _read("/proc/cmdline")
    mitigations = re.search(r"\bmitigations=(\S+)", command_line)
    return Machine(
        cpu=of_cpu("model name"),
        cpus=len(os.sched_getaffinity(0)),
        mhz=float(of_cpu("cpu MHz") or 0),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        is_virtual=" hypervisor" in of_cpu("flags"),
        kernel=platform.release(),
        kernel_version=platform.version(),
        clock=_read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        mitigations=mitigations[1] if mitigations else "default",
        python=platform.python_version(),
        bcc=_version("bcc"),
        hookline=_version("hookline"),
        commit=commit(_ROOT),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


class Watch:
    """Looks at the machine when made, for a second, and when asked for its doubts.

    Not at its load: that has the last minutes in it, and so what was measured before.
    """

    def __init__(self) -> None:
        before = _cpu_times()
        time.sleep(_LOOK_S)
        self._before = _cpu_times()
        self.busy = busy(before, self._before)

    @property
    def stolen(self) -> float:
        """Share of the CPUs' time since then that the hypervisor took away."""
        spent = _spent(self._before, _cpu_times())
        return spent[_STEAL] / (sum(spent) or 1)

    def doubts(self) -> Iterator[str]:
        """Sentences: why figures since then may be worth less."""
        clock = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
        if clock not in _GOOD_CLOCKS:
            yield f"the clock source is {clock}: reading it takes long, and every duration has it in it"
        if self.busy > _BUSY:
            yield f"others used {self.busy:.0%} of the CPUs when it began: they had a part in these figures"
        if (stolen := self.stolen) > _STOLEN:
            yield f"the hypervisor took {stolen:.1%} of the time away: maxima and high percentiles have it in them"
        governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        if governor and governor != "performance":
            yield f"the CPU's frequency is governed by {governor}: it changes meanwhile"


_IDLE, _IOWAIT, _STEAL = 3, 4, 7
"""Places in `_cpu_times`."""


def _cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq and steal of all CPUs, ticks."""
    return [int(value) for value in _read("/proc/stat").splitlines()[0].split()[1:9]]


def _spent(before: Sequence[int], after: Sequence[int]) -> list[int]:
    return [now - then for now, then in zip(after, before, strict=True)]


def busy(before: Sequence[int], after: Sequence[int]) -> float:
    """Share of the time between two looks in which CPUs had work of this machine's."""
    spent = _spent(before, after)
    return 1 - (spent[_IDLE] + spent[_IOWAIT] + spent[_STEAL]) / (sum(spent) or 1)
