# SPDX-License-Identifier: GPL-2.0-or-later
"""How long programs take: by their own clock, and by the kernel's."""

from __future__ import annotations

import subprocess
from pathlib import Path

from probes.filters import Filters, MapSettings
from probes.kernel import bpf
from probes.kernel.loader import Loading, request
from probes.registry import all_probes
from tests.live.tools import NEED_MODULES, until

SETTINGS = MapSettings(Filters(), own_tgid=0, wakeup_bytes=65_536)
RUNS = 300


def test_durations_agree_with_the_kernel(tracefs: Path, tmp_path: Path) -> None:
    """Each run is counted once, also where programs call others, and takes no longer than the kernel says."""
    wanted = request(["execve", "fork", "exit"], ring_bytes=1 << 20, settings=SETTINGS, histogram=True)
    with Loading(wanted).wait() as loaded, bpf.run_statistics():
        programs = ("execve/execve_succeeded", "fork/fork_process", "exit/exit_process")
        before = loaded.histograms()
        for _ in range(RUNS):
            subprocess.run(["true"], check=True)
        loaded.detach()
        after = loaded.histograms()
        for name in programs:
            kernel = bpf.program_statistics(loaded.programs[name])
            runs = after[name].count - before[name].count
            # Between the two looks and the switch of the statistics some may run: others' processes.
            assert RUNS <= runs <= kernel.run_count + 100
            mean = (after[name].total_ns - before[name].total_ns) / runs
            assert 100 < mean < 1.2 * kernel.run_time_ns / kernel.run_count
            assert sum(after[name].counts) == after[name].count
            assert after[name].quantile(1.0) == after[name].max_ns


def test_every_probe_can_be_timed(tracefs: Path, tmp_path: Path) -> None:
    """Every probe that runs here runs with its durations counted too."""
    wanted = request(all_probes(), ring_bytes=1 << 16, settings=SETTINGS, histogram=True, cache=str(tmp_path / "cache"))
    with Loading(wanted).wait() as loaded:
        refused = {name for name, report in loaded.reports.items() if report.error}
        assert refused <= NEED_MODULES
        assert {name.partition("/")[0] for name in loaded.histograms()} == set(all_probes()) - refused


def test_statistics_are_off_afterwards(tracefs: Path) -> None:
    """The kernel counts the runs of programs only as long as somebody asks for it."""
    wanted = request(["fork"], ring_bytes=1 << 16, settings=SETTINGS)
    with Loading(wanted).wait() as loaded:
        fd = loaded.programs["fork/fork_process"]
        with bpf.run_statistics():
            subprocess.run(["true"], check=True)
            assert bpf.program_statistics(fd).run_count > 0

        def is_off() -> bool:
            before = bpf.program_statistics(fd).run_count
            subprocess.run(["true"], check=True)
            return bpf.program_statistics(fd).run_count == before

        until(is_off, "the end of the statistics, for which others may ask too")
