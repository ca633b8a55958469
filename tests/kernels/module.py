# SPDX-License-Identifier: GPL-2.0-or-later
"""The module of tests (module/hookline_test.c), built on this host for a guest's kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import blake2b
from pathlib import Path

from tests.kernels.debian import Kernel, fetch_library, locked

_SOURCE = Path(__file__).parent / "module" / "hookline_test.c"

_SETTINGS = (
    "CC=gcc",  # the kernel's own compiler may be a newer one
    "CONFIG_DEBUG_INFO_BTF_MODULES=",  # needs pahole
    "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",  # an option of newer compilers
)


def build(kernel: Kernel) -> Path:
    """The module's file, from the cache or built into it."""
    with locked(kernel.folder / "lock"):
        digest = blake2b(_SOURCE.read_bytes() + kernel.version.encode(), digest_size=8).hexdigest()
        folder = kernel.folder / f"module-{digest}"
        if not folder.exists():
            fresh = kernel.folder / "module-fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _make(kernel, fresh)
            fresh.rename(folder)
    return folder / f"{_SOURCE.stem}.ko"


def _make(kernel: Kernel, folder: Path) -> None:
    """Build in `folder`. Headers and tools name each other below /usr, so they are seen there, over this host's."""
    shutil.copy(_SOURCE, folder)
    (folder / "Makefile").write_text(f"obj-m := {_SOURCE.stem}.o\n")
    library = fetch_library(kernel)
    script = ["set -e"]
    for place in ("/usr/src", "/usr/lib"):
        layers = [f"{root}{place}" for root in (library, kernel.root, "") if root is not None]
        lower = ":".join(layer for layer in layers if os.path.isdir(layer))
        script.append(f"mount -t overlay none -o lowerdir={lower} {place}")
    script.append(f"make -s -C /usr/src/linux-headers-{kernel.version} M={folder} {' '.join(_SETTINGS)} modules")
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
