# SPDX-License-Identifier: GPL-2.0-or-later
"""The figures of the metrics endpoint are the ledger's."""

from __future__ import annotations

import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.loads import load
from tests.live.tools import Tables, run, until
from tests.ports import free_port

SAMPLE = re.compile(r"(\w+)\{(.*)\} ([0-9.e+]+)")
LABEL = re.compile(r'\w+="([^"]*)"')
SINK = ("hookline_sink_events_total",)
KINDS = ("execve", "exit", "fork", "connect", "create_file")
STRANGER = 54_321
"""A user id that nobody else on this machine has."""

Figures = dict[tuple[str, ...], int]
"""By the metric's name and the values of its labels, in the order of the labels' names."""


def scrape(port: int) -> Figures:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = [match.groups() for match in map(SAMPLE.fullmatch, text.splitlines()) if match]
    return {(name, *LABEL.findall(labels)): int(float(figure)) for name, labels, figure in samples}


WORK = """
for i in $(seq 100); do
    : >"$0/$i"
    exec 3<>/dev/udp/127.0.0.1/$((1000 + i))
    /bin/true
done
"""


def test_the_figures_are_the_ledgers(tmp_path: Path) -> None:
    """Once all is delivered, every figure of the endpoint is the one of the ledger at the end."""
    port = free_port()
    # Whatever else this machine does is left out, so that nothing happens between the look and the end.
    tables: Tables = {"metrics": {"listen": f"127.0.0.1:{port}"}, "filters": {"uid": [0]}}
    with Collector(tmp_path, tables) as collector, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        run("bash", "-ec", WORK, folder, user=STRANGER, group=STRANGER)

        def settled() -> Figures | None:
            figures = scrape(port)
            for name in KINDS:
                emitted = figures["hookline_events_total", name, "emitted"]
                if emitted < 100 or emitted != figures.get((*SINK, name, "delivered", "file")):
                    return None
            return figures

        figures = until(settled, "everything is delivered")
        outcome = collector.stop()
    for name, kind in outcome.ledger["kinds"].items():
        for stage in ("emitted", "dropped_ring", "decoded", "malformed", "missing"):
            assert figures["hookline_events_total", name, stage] == kind[stage], (name, stage)
        for sink, account in kind["sinks"].items():
            for became in ("offered", "delivered", "dropped_queue", "dropped_shutdown"):
                assert figures[*SINK, name, became, sink] == account[became], (name, became)
            assert figures["hookline_sink_in_flight", name, sink] == 0
    lines = sum(kind["sinks"]["file"]["delivered"] for kind in outcome.ledger["kinds"].values() if kind["sinks"])
    assert figures["hookline_part", "lines", "sink_file"] == lines == len(outcome.events)
    outcome.check()


def test_the_endpoint_under_load(programs: Programs, tmp_path: Path) -> None:
    """Under load no counter ever falls, and the endpoint is gone when the collector is."""
    port = free_port()
    before: Figures = {}
    with Collector(tmp_path, {"metrics": {"listen": f"127.0.0.1:{port}"}}) as collector:
        with load(programs, tmp_path):
            for _ in range(20):
                figures = scrape(port)
                assert all(figures[key] >= count for key, count in before.items())
                before = {key: count for key, count in figures.items() if key[0].endswith("_total")}
        outcome = collector.stop()
    for name in KINDS:
        assert before["hookline_events_total", name, "decoded"] <= outcome.kind(name)["decoded"]
    with pytest.raises(urllib.error.URLError):
        scrape(port)
    outcome.check()
