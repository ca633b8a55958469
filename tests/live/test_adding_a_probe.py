# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/adding-a-probe.md: its very probe, put where it says."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

from tests.live.calls import CHROOT, call, fork
from tests.live.collector import ROOT, Collector
from tests.live.views import caused_by

PAGE = ROOT / "docs/adding-a-probe.md"
KIND = 161


def test_the_probe_of_the_page(tracefs: Path, tmp_path: Path) -> None:
    """The two files of the page, with no other edit, are a probe: it tells a chroot and a failed one, all counted."""
    sources = tmp_path / "sources"
    for package in ("pipeline", "probes", "sinks"):
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    page = PAGE.read_text()
    for heading, language in re.findall(r"^## .*`(probes/\S+)`\n+(?:[^#`]*\n)?```(\w+)$", page, re.MULTILINE):
        code = page.partition(f"`{heading}`")[2].partition(f"```{language}\n")[2].partition("```")[0]
        assert not (ROOT / heading).exists()
        (sources / heading).write_text(code)
    assert {path.name for path in (sources / "probes/process").glob("chroot.*")} == {"chroot.py", "chroot.c"}

    def change_root() -> None:
        call(CHROOT, b"/")
        call(CHROOT, b"/no such directory", fails=errno.ENOENT)

    with Collector(tmp_path, {"collector": {"probes": ["chroot", "execve", "fork"]}}, sources=sources) as running:
        child = fork(change_root)
        assert os.waitpid(child, 0)[1] == 0
        told = caused_by(running.sync(), child, KIND)
        assert [event["res"] for event in told] == ["0", str(-errno.ENOENT)]
        assert {event["exe"] for event in told} == {os.readlink("/proc/self/exe")}
        outcome = running.stop()
    outcome.check()
    assert outcome.kind("chroot")["emitted"] >= len(told)
