# SPDX-License-Identifier: GPL-2.0-or-later
"""`bench run`: how often what is attached and done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from bench import rounds
from bench.actions import ACTIONS, Action
from bench.figures import Spread
from bench.progress import progress
from bench.report import Report
from bench.rounds import Plan, measure
from pipeline.config import Config
from probes.errors import LoadError
from probes.kernel.bpf import ProgramStatistics


class Bench:
    """Notes what `bench run` attaches and does, and in which order."""

    def __init__(self) -> None:
        self.report: Report
        self.log: list[str] = []
        self.done: Counter[tuple[str, str]] = Counter()
        self._way = "without"
        self.places: list[str] = []

    @contextmanager
    def nothing_at(self, target: str) -> Iterator[int]:
        self.places.append(target)
        self._way = "nothing"
        yield 7
        self._way = "all"

    @contextmanager
    def loaded(
        self, _config: Config, probes: Sequence[str], *, histogram: bool = False
    ) -> Iterator[tuple[object, object]]:
        self._way = (
            "histograms"
            if histogram
            else "all"
            if probes == Plan.make(Config(), (), (), quick=True).probes
            else "default"
        )
        self.log.append(self._way)
        held = SimpleNamespace(reports={}, programs={}, histograms=lambda before=None: {}, counters=list)
        yield held, SimpleNamespace(read=lambda size: None)
        self._way = "without"

    def run(self, action: Action, share: float) -> list[float]:
        if self._way == "without" and self.log[-1:] != ["without"]:
            self.log.append("without")
        self.done[self._way, action.name] += 1
        return [100.0]


def measured(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> Bench:
    bench = Bench()
    monkeypatch.setattr(rounds, "loaded", bench.loaded)
    monkeypatch.setattr(rounds, "fill_caches", lambda config, probes: bench.log.append("compiled"))
    monkeypatch.setattr(rounds, "run_statistics", nullcontext)
    monkeypatch.setattr(rounds, "actions", lambda: nullcontext(bench))
    monkeypatch.setattr(rounds, "nothing_at", bench.nothing_at)
    monkeypatch.setattr(rounds, "program_statistics", lambda fd: ProgramStatistics(560, fd, 0))
    with progress() as shown:
        bench.report = measure(Config(), plan, shown, command="bench run")
    assert bench.report.rounds == plan.rounds
    return bench


def test_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """--quick measures every action in three rounds in each of the four ways, and attaches the probes three times."""
    bench = measured(monkeypatch, Plan.make(Config(), (), (), quick=True))
    assert bench.log == ["compiled", "without", "default", "without", "all", "histograms"]
    once = {(way, action.name): 3 for way in ("default", "all", "histograms") for action in ACTIONS}
    warm = {("without", action.name): 3 + 1 for action in ACTIONS}
    assert bench.done == once | warm | {("nothing", "getppid"): 3}


def test_rounds_begin_in_turn_with_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --quick every round attaches anew, and every second one begins the other way round."""
    bench = measured(monkeypatch, Plan.make(Config(), (), ("getppid",), quick=False))
    two = ["default", "without", "all", "histograms", "without", "default", "all", "histograms"]
    assert bench.log == ["compiled", "without", *two * 4, *two[:4]]


def test_a_program_that_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bpf_stats count for it is measured once a round, as mean ns a run, whichever action is asked for."""
    bench = measured(monkeypatch, Plan.make(Config(), (), ("bind",), quick=False))
    assert bench.report.nothing == Spread(80.0, 80.0, 80.0, 9)
    assert bench.places == ["syscalls:sys_exit_getppid"] * 9
    assert ("all", "getppid") not in bench.done


@pytest.mark.parametrize("error", [OSError("no such tracepoint"), LoadError("refused", "")])
def test_where_it_cannot_be_attached(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its tracepoint there is no such figure, and everything else is there."""

    def refused(_bench: Bench, target: str) -> AbstractContextManager[int]:
        raise error

    monkeypatch.setattr(Bench, "nothing_at", refused)
    bench = measured(monkeypatch, Plan.make(Config(), (), ("bind",), quick=True))
    assert bench.report.nothing is None
    assert bench.done["histograms", "bind"] == 3
