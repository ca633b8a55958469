# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules in C under the compiler's sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GCC = shutil.which("gcc") or ""
HEADERS = sysconfig.get_path("include")


def library(name: str) -> str:
    return subprocess.run([GCC, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(not GCC or not Path(HEADERS, "Python.h").exists(), reason="needs gcc and libpython3-dev")
def test_hostile_records_touch_no_memory_but_their_own(tmp_path: Path) -> None:
    """Cut, lying and random records of every kind go from decoder to lines without a bad access, as Python does it."""
    built = []
    for folder in ("probes", "pipeline/enrich", "pipeline/encode"):
        built.append(tmp_path / f"{folder.replace('/', '_')}.so")
        line = [
            GCC, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-missing-field-initializers",
            "-Wno-cast-function-type", "-Werror", "-fPIC", "-shared", "-fsanitize=address,undefined",
            "-fno-sanitize-recover", f"-I{HEADERS}", "-o", str(built[-1]), str(ROOT / folder / "native.c"),
        ]  # fmt: skip
        subprocess.run(line, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.native.hostile", *built],
        cwd=ROOT,
        env={
            **os.environ,
            "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
            "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own, at its end
            "PYTHONMALLOC": "malloc",  # so that each object has bounds
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(done.stdout.split()[0]) > 1000
