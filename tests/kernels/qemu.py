# SPDX-License-Identifier: GPL-2.0-or-later
"""One guest from boot to power-off, under plain emulation, and why it failed if it did."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
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
    "hardened_usercopy=off",  # and these
    "randomize_kstack_offset=off",
    "transparent_hugepage=never",  # for a page of a region with large ones, QEMU forgets all that it has translated
    "psi=0",  # counted at every switch of tasks
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
    cpu_s: float
    """What QEMU took of the processors."""

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
        said, cpu_s = _run(_command(kernel, initramfs, results), limit_s)
    finally:
        initramfs.unlink()
    return Ended(time.monotonic() - at, cpu_s, results, said or trouble(results))


def _run(command: Sequence[str], limit_s: float) -> tuple[str, float]:
    """Why QEMU did not end well, empty if it did; and the processor's seconds that it took."""
    hangs = threading.Event()
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr)

        def end() -> None:
            hangs.set()
            process.kill()

        limit = threading.Timer(limit_s, end)
        limit.start()
        try:
            # Popen.wait does not tell of the processor.
            _pid, status, used = os.wait4(process.pid, 0)
        finally:
            limit.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        stderr.seek(0)
        said = stderr.read().decode(errors="replace").strip()
    cpu_s = used.ru_utime + used.ru_stime
    if hangs.is_set():
        return f"hangs: not done after {limit_s:.0f} s", cpu_s
    return (f"qemu ended with {process.returncode}: {said}" if process.returncode else ""), cpu_s


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
