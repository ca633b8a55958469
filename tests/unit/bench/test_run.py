# SPDX-License-Identifier: GPL-2.0-or-later
"""`bench run`: what it concludes from what was counted, and how it shows that."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from bench.actions import ACTIONS
from bench.budgets import load
from bench.comparison import change, show_change
from bench.figures import Spread, interval, spread
from bench.page import write_page
from bench.report import failures, read, save
from bench.rounds import Plan
from bench.samples import Samples
from bench.table import WIDTH, figure, paid_instead, show, verdict
from pipeline.config import Config, ConfigError
from probes.kernel.histogram import EMPTY
from probes.registry import all_probes
from tests.unit.bench.reports import FAST, counted, report, samples


def test_all_budgets_met() -> None:
    """Where every mean is below its budget, and what calls pay is below that of the entry handlers, nothing fails."""
    found = report(samples(**FAST))
    assert failures(found) == []
    assert {row.verdict for row in found.rows if row.source.is_budget} == {"met", "no handler"}


def test_over_budget_is_named() -> None:
    """A handler that takes 20 µs too long is named with its mean and the budget."""
    slow = failures(report(samples(**{**FAST, "connect": 20_700})))
    assert len(slow) == 1
    assert re.search(r"connect_handler.*connect/connect_returned takes 20\.70 µs.*budget is 7\.5 µs", slow[0])


def test_what_calls_pay_is_a_verdict() -> None:
    """An entry handler that does not exist is over its budget if each call pays more than it for the probes."""
    assert [name.split()[0] for name in failures(report(samples(paid=100.0, **FAST)))] == ["connect_entry_handler"]


def test_no_samples_are_not_zero() -> None:
    """A handler that did not run has no mean and no ratio, and the check fails for it."""
    found = report(samples(**{name: took for name, took in FAST.items() if name != "execve"}))
    row = next(row for row in found.rows if row.documented.handler == "execve_entry_handler")
    assert (row.verdict, row.mean, row.ratio, row.n) == ("no samples", None, None, 0)
    assert ["no samples" in sentence for sentence in failures(found)] == [True]


def test_what_was_not_asked_for_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --probe, handlers of other probes are not measured: no failure, and in no count, but told."""
    plan = Plan.make(Config(), ("execve",), (), quick=True)
    found = report(samples(execve=5000), plan.asks_for)
    verdicts = {row.documented.handler: row.verdict for row in found.rows if row.source.is_budget}
    others = ["connect_handler", "recvfrom_handler", "fsnotify_post_handler"]
    assert [name for name, verdict in verdicts.items() if verdict == "not measured"] == others
    assert verdicts["execve_entry_handler"] == "met"
    out = Console(width=WIDTH)
    show(found, out)
    assert verdict(found, out) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= WIDTH
    assert len(re.findall(r"_handler .* not measured *$", said, re.MULTILINE)) == 3
    assert said.endswith(f"no documented mean is exceeded\nnot measured: {', '.join(others)}\n")
    write_page(tmp_path / "page.html", found)
    assert "1 of 1 documented handler budgets met, 3 not measured;" in (tmp_path / "page.html").read_text()


def test_an_action_that_was_not_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """With --action, only what that action drives is measured; a check of nothing says that it is one."""
    driven = Plan.make(Config(), (), ("connect_udp",), quick=True).asks_for
    assert [each.handler for each in load().handlers if each.source == "seed" and driven(each)] == ["connect_handler"]
    nothing = report(samples(), Plan.make(Config(), ("fork",), ("fork",), quick=True).asks_for)
    assert verdict(nothing, Console(width=WIDTH)) == 0
    assert capsys.readouterr().out.startswith("no documented budget was asked for, so none is checked\n")


def test_what_was_asked_for_and_has_no_samples_fails() -> None:
    """A probe that was named and did not run goes on to fail the check."""
    found = report(samples(execve=5000), Plan.make(Config(), ("execve", "connect"), (), quick=True).asks_for)
    (sentence,) = failures(found)
    assert sentence.startswith("connect_handler (AgentSmith-HIDS, January 2020): no samples")


@pytest.mark.parametrize(("rounds", "bracket", "noise"), [(3, "range of 3 rounds", False), (9, "95 % interval", True)])
def test_too_few_rounds_are_no_noise(
    rounds: int, bracket: str, noise: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few rounds for an interval show their range, under that name, and say nothing of noise."""
    found = report(samples(paid=-10.0, rounds=rounds, **FAST))
    show(found, Console(width=WIDTH))
    said = capsys.readouterr().out
    few = "" if noise else ", too few to tell what is noise"
    assert f"paid: the difference with its {bracket}{few} theirs:" in " ".join(said.split())
    assert bool(re.search(r"getppid.* noise *$", said, re.MULTILINE)) == noise
    write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"paid ({bracket})" in page
    assert (">noise</span>" in page, ">too few rounds</span>" in page) == (noise, not noise)
    assert ("it is noise." in page, "too few to tell noise." in page) == (noise, not noise)


def test_percentiles_over() -> None:
    """A percentile above the documented one is told, though the mean is met."""
    found = samples(**FAST)
    for number in range(3):
        found.inside("open", {"create_file/create_file_opened": counted(60 + number)},
                     {"create_file/create_file_opened": counted(62, 2000)})  # fmt: skip
    rows = report(found).rows
    assert next(row for row in rows if row.documented.handler == "fsnotify_post_handler").percentiles_over == ("p50",)


def test_the_clock_is_taken_off() -> None:
    """What a reading of the clock takes by itself is taken off every duration, and is no program."""
    found = samples(**FAST)
    found.inside("open", {"create_file/clock": EMPTY}, {"create_file/clock": counted(40)})
    (handler,) = [each for each in found.handlers() if each.name == "create_file/create_file_opened"]
    assert found.clock_ns == 40
    assert handler.inside.mean == FAST["open"] + 1 - 40
    assert handler.inside.p50 == FAST["open"] + 1 - 40
    assert not any("clock" in each.name for each in found.handlers())


def test_budgets_name_what_there_is() -> None:
    """Every budget's programs are of probes that exist, its actions too, and the six rows of the first table stand."""
    budgets = load()
    assert sum(budgets.sources[each.source].is_budget for each in budgets.handlers) == 6
    for each in budgets.handlers:
        assert {name.partition("/")[0] for name in each.ours} <= set(all_probes())
        assert set(each.actions) <= {action.name for action in ACTIONS}


def test_a_change_is_more_than_noise() -> None:
    """Rounds whose ranges overlap have not changed; others have, if by 5 % or more."""
    before, same, slower = (samples(connect=took).handlers()[0] for took in (1000, 1002, 1100))
    assert change(before, same) is None
    assert change(before, slower) == pytest.approx(0.1, rel=0.01)


def test_what_ran_by_the_way_has_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """A program that ran some times amid another's action is not compared; one that was driven is."""
    for runs, changed in ((10, 0), (1000, 1)):
        before, now = Samples(), Samples()
        for found, took in ((before, 1000), (now, 2000)):
            found.inside("bind", {"fork/fork_process": EMPTY}, {"fork/fork_process": counted(took, runs)})
            found.call("getppid", [100.0], beside=False)
            found.call("getppid", [100.0], beside=True)
        show_change(report(before), report(now), Console(width=WIDTH))
        said = capsys.readouterr().out
        assert f"0 programs did not change by more than the rounds scatter, {changed} did" in said
        assert ("+100%" in said) == bool(changed)


def test_what_calls_pay_in_words() -> None:
    """Noise has no figure but what it could be at most, and none is below zero; a difference has its interval.

    Of too few rounds for one it has their range, and says so.
    """
    assert paid_instead(interval([-40.0, -20.0, -60.0, 30.0, -10.0, 20.0])) == "at most 0.03"
    assert paid_instead(interval([-40.0, -41.0] * 3)) == "at most 0.00"
    assert paid_instead(interval([100.0 + each for each in range(9)])) == "0.10 (0.10 to 0.11)"
    assert paid_instead(interval([310.0, 300.0, 290.0])) == "0.30 (range of 3 rounds: 0.29 to 0.31)"


def test_interval_of_noise() -> None:
    """Differences around zero are noise, and the same values give the same interval."""
    values = [-3.0, 2.0, -1.0, 4.0, -2.0, 1.0, 0.5, -0.5, 3.0]
    assert interval(values).doubt == "noise"
    assert interval(values) == interval(values)
    assert interval([value + 100 for value in values]).doubt == ""
    assert interval([value - 100 for value in values]).doubt == "noise"
    assert spread([3.0, 1.0, 2.0]).median == 2.0


def test_figures_are_short() -> None:
    """Microseconds take at most four characters below 10 ms, and what is missing is no zero."""
    assert [figure(each) for each in (None, 0, 62, 999, 10_400, 99_960, 250_000)] == [
        "–", "0.00", "0.06", "1.00", "10.4", "100", "250",
    ]  # fmt: skip


def test_table_fits(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables fit 100 columns, and show doubts and what was left out."""
    show(report(samples(**FAST)), Console(width=WIDTH))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    assert "…" not in said
    assert "doubt: the load was 9" in said
    assert "left out: usb: no" in said


@pytest.mark.parametrize("counted", [None, spread([82.0, 84.0, 86.0])])
def test_what_counting_costs(counted: Spread | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the kernel counts for a program that does nothing is told where it was measured; old files load without."""
    found = msgspec.structs.replace(report(samples(**FAST)), nothing=counted)
    show(found, Console(width=WIDTH))
    line = "the kernel's statistics count 0.08 µs for a program that does nothing\n"
    assert (line in capsys.readouterr().out) == (counted is not None)
    write_page(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ("which count 0.08 µs for a program that does nothing;" in page) == (counted is not None)
    kept = msgspec.to_builtins(found)
    if counted is None:
        del kept["nothing"]
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(kept))
    assert read(tmp_path / "a.json") == found


def test_page_needs_nothing_else(tmp_path: Path) -> None:
    """The page loads nothing, and each budget row is on it; what a file name holds is escaped."""
    page = tmp_path / "page.html"
    write_page(page, msgspec.structs.replace(report(samples(**FAST)), command="bench <run>"))
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    assert text.count("<article>") == 6
    assert "bench &lt;run&gt;" in text


def test_json_goes_and_comes(tmp_path: Path) -> None:
    """What is saved is read again; another file is refused in a sentence."""
    found = report(samples(**FAST))
    save(found, tmp_path / "a.json")
    assert read(tmp_path / "a.json") == found
    (tmp_path / "b.json").write_text('{"schema": "x"}', encoding="ascii")
    with pytest.raises(ConfigError, match=r"b\.json is x, not hookline-bench-run/2"):
        read(tmp_path / "b.json")
