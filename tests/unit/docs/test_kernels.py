# SPDX-License-Identifier: GPL-2.0-or-later
"""The README's table of kernels, and that no probe is without a test in the guests."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.registry import all_probes
from tests.kernels.releases import RELEASES
from tests.kernels.results import README, RESULTS, Results, table, with_table

LIVE = Path(__file__).parents[2] / "live"


@pytest.fixture
def results() -> Results:
    found: Results = json.loads(RESULTS.read_bytes())
    return found


def test_the_table_of_kernels(results: Results) -> None:
    """The README's table says what the last recorded run of the guests has proven."""
    text = README.read_text()
    assert with_table(text, results) == text


def test_every_kernel_and_probe_is_there(results: Results) -> None:
    """Each form of each probe has an outcome on each kernel that is on record."""
    assert {*results} <= {release.name for release in RELEASES}
    forms = {name: {form.name for form in probe.forms} for name, probe in all_probes().items()}
    for result in results.values():
        assert {name: {*cells} for name, cells in result["probes"].items()} == forms
        outcomes = {cell["outcome"] for cells in result["probes"].values() for cell in cells.values()}
        assert outcomes <= {"passed", "failed", "not run", "not here"}
        assert result["together"] in {"passed", "failed"}


def test_failures_are_shown() -> None:
    """A form that failed, and a probe that a kernel has not, stand in the table as that."""
    cells = {
        "connect": {"fentry": {"outcome": "failed"}, "kprobe": {"outcome": "passed"}},
        "port_scan": {"tracepoint": {"outcome": "not here", "reason": "too old"}},
    }
    result = {"version": "5.10.0-1-amd64", "ended": "hangs", "together": "failed", "probes": cells}
    lines = table({"5.10": result}).splitlines()
    assert lines[0] == "| probe | 5.10.0-1-amd64 |"
    assert "| connect | fentry **fails**, kprobe |" in lines
    assert "| all at once, with a closed ledger | failed |" in lines
    assert "- 5.10: `port_scan` is not there: too old" in lines
    assert "- 5.10: the guest did not end in peace: hangs" in lines
    assert "- 6.1, 6.12, 7.x: no run is on record" in lines


def marks() -> Iterator[pytest.Mark]:
    """Every `guest` of the live tests."""
    for path in LIVE.glob("test_*.py"):
        module = importlib.import_module(f"tests.live.{path.stem}")
        for _name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                yield from (mark for mark in getattr(function, "pytestmark", []) if mark.name == "guest")


def test_every_probe_in_the_guests() -> None:
    """Each probe has a test in the guests that makes it tell, and one of what it must not tell."""
    told = {probe for mark in marks() if not mark.kwargs.get("silent") for probe in mark.args}
    silent = {probe for mark in marks() if mark.kwargs.get("silent") for probe in mark.args}
    assert told == {*all_probes()}
    assert silent == {*all_probes()}
