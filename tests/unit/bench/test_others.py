# SPDX-License-Identifier: GPL-2.0-or-later
"""`bench stages`, `bench e2e` and `bench overhead`: what they conclude, and the page with them."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

from bench import overhead, stages
from bench.collector import Buckets, Collector
from bench.e2e import _settle, quantile
from bench.figures import spread
from bench.machine import machine
from bench.overhead import Run, Workload
from bench.page import write_page
from bench.rivals import lost_by_bpftrace
from pipeline.config import ConfigError
from tests.unit.bench.reports import FAST, report, samples


def test_quantiles_of_buckets() -> None:
    """A quantile is the upper end of its bucket; of nothing there is none, and not zero."""
    buckets = {0.001: 0, 0.01: 90, 0.1: 99, math.inf: 100}
    assert [quantile(buckets, share) for share in (0.5, 0.9, 0.99, 0.999)] == [0.01, 0.01, 0.1, math.inf]
    assert math.isnan(quantile({0.001: 0, math.inf: 0}, 0.5))


class Stuck(Collector):
    """A collector of whose sinks one has taken 40 events."""

    def latencies(self) -> dict[str, Buckets]:
        return {"file": {0.1: 40, math.inf: 40}}


def test_why_a_sink_did_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sink that acknowledges nothing is named with the reason that the collector gives for it now."""
    log = tmp_path / "log"
    said = [
        {"event": "a sink takes nothing, trying again", "sink": "file", "reason": "the disk is full"},
        {"event": "a sink takes events again", "sink": "file"},
        {"event": "a sink takes nothing, trying again", "sink": "search", "reason": "connection refused"},
    ]
    log.write_text("not JSON\n" + "".join(f"{json.dumps(line)}\n" for line in said), encoding="utf-8")
    monkeypatch.setattr("bench.e2e._PATIENCE_S", 0.0)
    with subprocess.Popen(["/bin/true"]) as process, pytest.raises(ConfigError) as caught:
        _settle(Stuck(process, log, ""), 50)
    assert str(caught.value).endswith(": file took 40; search took 0 (connection refused)")


def measured() -> overhead.Report:
    """Six rounds in which watching costs a tenth of the wall time."""
    run, workload = Run(), Workload("storm", ("true",))
    for number in range(6):
        for name, wall in (("nobody", 1.0), ("hookline", 1.1)):
            run.wall[name, "storm"].append(wall + number / 100)
            run.system[name, "storm"].append(0.5)
            run.cpu[name, "storm"].append(0.1)
    run.lost["hookline"] = 7
    watched = tuple(run.result(name, workload) for name in ("nobody", "hookline"))
    return overhead.Report(
        overhead.SCHEMA, "bench overhead", machine(), 6, watched, ("the storm is noise",), ("auditd: <none>",)
    )


def test_what_is_paid() -> None:
    """The share of the time that a workload pays is that of each round with its own round without a collector."""
    nobody, hookline = measured().watched
    assert nobody.wall_paid.median == 0
    assert hookline.wall_paid.median == pytest.approx(0.0985, abs=0.001)
    assert hookline.wall_paid.doubt == ""
    assert hookline.lost == 7


def test_what_bpftrace_lost() -> None:
    """All that bpftrace says it lost is added up, also where it says so amid a line that the script began."""
    said = "ready\nLost 12 events\n1 2 /bin/true Lost 30 events\n1 2 /bin/echo Lost 5 events of mine\n"
    assert lost_by_bpftrace(said) == 42


def test_page_with_all(tmp_path: Path) -> None:
    """The page shows stages and collectors where they are given, and what was left out."""
    of_stages = stages.Report(
        stages.SCHEMA, "bench stages", machine(), 40_000, (stages.Stage("decode", spread([900.0, 950.0])),), (), ()
    )
    page = tmp_path / "page.html"
    write_page(page, report(samples(**FAST)), (of_stages, measured()))
    text = page.read_text(encoding="utf-8")
    assert "925 ns" in text
    assert " s (+9." in text
    assert "left out: auditd: &lt;none&gt;" in text
    assert "<li>the storm is noise</li>" in text
