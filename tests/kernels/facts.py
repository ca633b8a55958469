# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel says of itself, read once in a guest, so that this host can compile probes for it.

A guest compiles thirty times slower. The host's compiler sees a kernel's facts in place of its own, in a mount
namespace for itself, and writes the collector's own cache: in the guest, the loader finds there what it would make.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.kernels.debian import Kernel, locked
from tests.kernels.qemu import boot
from tests.live.collector import HOOKLINE, ROOT

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


def compile_for(kernel: Kernel, forms: list[str]) -> str:
    """Compile every probe for `kernel` in these forms, where the cache lacks it; gives what the compiler said."""
    with locked(kernel.folder / "lock"):
        facts = _facts(kernel)
        config = kernel.folder / "compile.toml"
        config.write_text(f'[collector]\nprobes = ["all"]\ncache = {json.dumps(str(kernel.compiled))}\n')
        mounts = [f"mount --bind {facts}{path} {path}" for path in (*_FILES, _SOURCES, _TRACEFS)]
        commands = [f"{' '.join(HOOKLINE)} compile --config {config} --attach {form}" for form in forms]
        script = "\n".join(["set -e", *mounts, *commands])
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


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
