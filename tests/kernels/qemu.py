# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest from boot to power-off, under plain emulation, and why it failed if it did."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.debian import Kernel
from tests.kernels.initramfs import write_initramfs

_MEMORY_MB = 1024
_COMMAND_LINE = (
    "console=ttyS0",
    "quiet",
    "panic=-1",  # reboot at once, which -no-reboot makes the end
    "oops=panic",
    "mitigations=off",  # emulated, they protect nobody and cost much
    "init_on_alloc=0",  # so does this
    "tsc=reliable",  # a guest that waits for a processor would doubt its clock, and take one that is slow to read
    "rcupdate.rcu_expedited=1",  # a wait for running programs takes seconds otherwise
    "lsm=lockdown,yama,apparmor,bpf",
)
_TROUBLE = re.compile(
    r"Kernel panic|BUG:|Oops:|WARNING: (?:CPU: \d|(?:\S+:\d+ )?at \S+, CPU#)|general protection fault|guest: no "
)
"""What no test can make good: each is a failure of the run, whatever its tests said. Linux 6.19 has other warnings."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A guest that has ended."""

    seconds: float
    results: Path
    """The folder with what the job left, and with the console."""

    failure: str
    """Why the guest did not end by itself and in peace; empty if it did."""


def boot(kernel: Kernel, results: Path, job: str, folders: Sequence[Path], *, limit_s: float) -> Ended:
    """Boot `kernel`, run `job` (bash) with the host's files, and wait for the end.

    Of the host, the guest can write only two folders: `results`, which it has as /run/results, and as /run/compiled
    the kernel's place for compiled probes. `folders` are visible in it even where they are below /tmp. After
    `limit_s` it is ended.
    """
    results.mkdir(parents=True)
    kernel.compiled.mkdir(mode=0o700, exist_ok=True)
    (results / "job.sh").write_text(job)
    (results / "folders").write_text("".join(f"{folder}\n" for folder in folders))
    initramfs = results / "initramfs"
    write_initramfs(kernel, initramfs)
    at = time.monotonic()
    try:
        qemu = subprocess.run(
            _command(kernel, initramfs, results),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        said = f"qemu ended with {qemu.returncode}: {qemu.stderr.strip()}" if qemu.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"hangs: not done after {limit_s:.0f} s"
    finally:
        initramfs.unlink()
    return Ended(time.monotonic() - at, results, said or trouble(results))


def trouble(results: Path) -> str:
    """What the kernel said that a guest's console or log in `results` holds, or that the job did not end; else ""."""
    for name in ("console", "dmesg"):
        path = results / name
        text = path.read_text(errors="replace") if path.exists() else ""
        if found := _TROUBLE.search(text):
            return f"{name} says: {text[found.start() :].splitlines()[0]}"
    return "" if (results / "exit").exists() else "powered off before the job was done"


def _command(kernel: Kernel, initramfs: Path, results: Path) -> list[str]:
    def share(tag: str, path: Path, options: str = "") -> list[str]:
        local = f"local,id={tag},path={path},security_model=none,multidevs=remap{options}"
        return ["-fsdev", local, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "pc", "-accel", "tcg,tb-size=512", "-cpu", "Nehalem", "-m", str(_MEMORY_MB), "-smp", "1"),
        *("-serial", f"file:{results / 'console'}", "-device", "virtio-rng-pci"),
        *share("host", Path("/"), ",readonly=on"),
        *share("results", results),
        *share("compiled", kernel.compiled),
        *("-device", "qemu-xhci", "-drive", f"if=none,id=stick,format=raw,read-only=on,file={initramfs}"),
        *("-device", "usb-storage,drive=stick,serial=hookline-stick"),
        *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", " ".join(_COMMAND_LINE)),
    ]
