# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel says of itself, read once in a guest, so that this host can compile probes for it.

A guest compiles thirty times slower. The host's compiler sees a kernel's facts in place of its own, in a mount
namespace for itself, and writes the collector's own cache: in the guest, the loader finds there what it would make.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kernels.debian import Kernel, locked
from tests.kernels.qemu import boot
from tests.live.collector import HOOKLINE, ROOT
from tests.live.guests import probes_for
from tests.live.tools import toml

_FILES = (
    "/proc/kallsyms",
    "/proc/sys/kernel/osrelease",
    "/proc/version",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/kernel/btf/vmlinux",
    "/sys/kernel/notes",
)
_SOURCES = "/sys/bus/event_source/devices"
_TRACEFS = "/sys/kernel/tracing"

_COLLECT = f"""
set -e
mkdir -p /tmp/facts{_TRACEFS}/events /tmp/facts{_SOURCES}
cp --parents -t /tmp/facts {" ".join(_FILES)}
cd {_TRACEFS}/events
cp --parents -t /tmp/facts{_TRACEFS}/events */*/format
cd /tmp/facts{_SOURCES}
mkdir $(ls {_SOURCES})
tar -cf /run/results/facts.tar -C /tmp/facts .
"""

_LIMIT_S = 400.0


def compile_for(kernel: Kernel, forms: Sequence[str]) -> tuple[dict[str, dict[str, dict[str, str]]], str]:
    """Compile for `kernel` what its guest loads, where the cache lacks it.

    Gives what the kernel offers, as offered.py says it and kernel.offered then holds, and what the compiler said.
    """
    with locked(kernel.folder / "lock"):
        facts = _facts(kernel)
        offered = _as_if_on(facts, f"{sys.executable} -m tests.kernels.offered {' '.join(forms)}")
        assert offered.returncode == 0, offered.stdout + offered.stderr
        kernel.offered.write_text(offered.stdout)
        found: dict[str, dict[str, dict[str, str]]] = json.loads(offered.stdout)
        commands = []
        for form in found:
            config = kernel.folder / f"compile-{form}.toml"
            tables = {"probes": probes_for(form, found), "cache": str(kernel.compiled), "attach": form}
            config.write_text(toml({"collector": tables}))
            commands.append(f"{' '.join(HOOKLINE)} compile --config {config}")
        done = _as_if_on(facts, *commands)
        return found, offered.stderr + done.stdout + done.stderr


def _as_if_on(facts: Path, *commands: str) -> subprocess.CompletedProcess[str]:
    """Run these where a kernel's facts are in place of this host's."""
    mounts = [f"mount --bind {facts}{path} {path}" for path in (*_FILES, _SOURCES, _TRACEFS)]
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(["set -e", *mounts, *commands])]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def _facts(kernel: Kernel) -> Path:
    facts = kernel.folder / "facts"
    if not facts.exists():
        results = kernel.folder / "facts-results"
        shutil.rmtree(results, ignore_errors=True)
        ended = boot(kernel, results, _COLLECT, [], limit_s=_LIMIT_S)
        log = (results / "log").read_text(errors="replace") if (results / "log").exists() else ""
        assert not ended.failure, f"Linux {kernel.version}: {ended.failure}; see {results}"
        assert (results / "facts.tar").exists(), log
        fresh = kernel.folder / "facts-fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        subprocess.run(["tar", "-xf", results / "facts.tar", "-C", fresh], check=True)
        fresh.rename(facts)
    return facts
