# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers as a runtime makes them: mount, UTS and pid namespaces of their own, and a root with its own C library."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.live.conftest import Programs

MUSL = Path("/lib/ld-musl-x86_64.so.1")


def musl_root(folder: Path, programs: Programs, linker: str) -> Path:
    """A root with musl at `linker`, and /bin/lookup, which uses it."""
    program = programs.dynamic("lookup", "musl-gcc", f"-Wl,--dynamic-linker={linker}")
    for name in ("bin", "etc", "lib", "old"):
        (folder / name).mkdir(parents=True)
    shutil.copy(program, folder / "bin/lookup")
    shutil.copy(MUSL, f"{folder}{linker}")
    return folder


def inside(root: Path | str, program: str, *, name: str = "box1", before: str = "") -> list[str]:
    """The command that begins a container at `root`, whose first process runs `program`.

    `before` is shell that runs in its mount namespace, in `root`, before that is the root.
    """
    enter = f"hostname {name}; mount --bind '{root}' '{root}'; cd '{root}'; {before or ':'}; pivot_root . old"
    namespaces = ("unshare", "--mount", "--uts", "--pid", "--fork", "--propagation", "private")
    return [*namespaces, "sh", "-ec", f'{enter}; exec {program} "$@"', "sh"]
