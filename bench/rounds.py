# SPDX-License-Identifier: GPL-2.0-or-later
"""``bench run``: the probes that the collector loads, driven by real system calls, in rounds.

A round measures each action in four ways: without probes; beside the default probes as users run them, with nothing
else switched on; beside all probes with the kernel's bpf_stats; and with a histogram in each program. Every second
round begins with the probes, so that a machine that gets slower or faster meanwhile does so to both. To attach all
probes takes some seconds, a round's actions two: where time is short, several rounds are measured at each attachment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress

import msgspec
from rich.progress import Progress

from bench.actions import ACTIONS, Action, Actions, actions
from bench.budgets import Documented
from bench.budgets import load as load_budgets
from bench.machine import Watch, machine
from bench.report import SCHEMA, Handler, Report
from bench.samples import Samples
from pipeline.config import Config, ConfigError, map_settings, with_overrides
from probes.errors import LoadError
from probes.kernel.bpf import program_statistics, run_statistics
from probes.kernel.loader import Loaded, Loading, request
from probes.kernel.nothing import nothing_at
from probes.kernel.ring import Ring

_SCATTERED = 0.5
"""Spread of the rounds' means above which a figure is called doubtful."""

_NOTHING, _NOWHERE = Action("getppid", 20_000, "getppid(2)"), "syscalls:sys_exit_getppid"
"""What drives a program that does nothing, and where it is attached: as most programs are, to the end of a call."""

_OFTEN = 1000
"""Runs below which a scattered mean says nothing about the machine."""


class Plan(msgspec.Struct, frozen=True):
    """What is measured, and how much."""

    probes: tuple[str, ...]
    """By histograms and bpf_stats."""

    beside: tuple[str, ...]
    """Beside which calls are timed."""

    actions: tuple[Action, ...] = ACTIONS
    rounds: int = 9
    share: float = 1.0
    """Of each action's count."""

    attached_for: int = 1
    """Rounds for which probes stay attached."""

    @classmethod
    def make(cls, config: Config, named: Sequence[str], actions: Sequence[str], *, quick: bool) -> Plan:
        """The probes and actions that are named, or all of them; then calls are timed beside the default probes.

        Raises:
            ConfigError: an unknown name.
        """
        probes = with_overrides(config, probes=named or ("all",)).collector.probes
        beside = probes if named else config.collector.probes
        known = [action.name for action in ACTIONS]
        if unknown := [name for name in actions if name not in known]:
            raise ConfigError(f"--action must be one of {', '.join(known)}, not {unknown[0]}")
        wanted = tuple(action for action in ACTIONS if action.name in actions or not actions)
        quickly = cls(probes, beside, wanted, rounds=3, share=0.3, attached_for=3)
        return quickly if quick else cls(probes, beside, wanted)

    def asks_for(self, documented: Documented) -> bool:
        """Whether it measures what answers that handler, under an action that drives it."""
        probes = {name.partition("/")[0] for name in documented.ours}
        driven = any(action.name in documented.actions for action in self.actions)
        return driven and (not probes or not probes.isdisjoint(self.probes))


def _loading(config: Config, probes: Sequence[str], *, histogram: bool, compile_only: bool = False) -> Loading:
    collector = config.collector
    return Loading(
        request(
            probes,
            ring_bytes=collector.ring_bytes,
            settings=map_settings(config, os.getpid()),
            attach=collector.attach,
            cache=f"{collector.cache}-timed" if histogram and collector.cache else collector.cache,
            histogram=histogram,
            compile_only=compile_only,
        )
    )


@contextmanager
def loaded(config: Config, probes: Sequence[str], *, histogram: bool = False) -> Iterator[tuple[Loaded, Ring]]:
    """These probes, attached as a collector has them, and their ring. Raises LoadError."""
    ring_bytes = config.collector.ring_bytes
    with (
        _loading(config, probes, histogram=histogram).wait() as held,
        closing(Ring(held.ring_fd, ring_bytes)) as ring,
    ):
        yield held, ring


def fill_caches(config: Config, probes: Sequence[str]) -> None:
    """Compile both builds of what is in no cache yet. Raises LoadError."""
    for histogram in (False, True):
        with closing(_loading(config, probes, histogram=histogram, compile_only=True)) as loading:
            loading.wait()


def _drain(ring: Ring) -> None:
    """Make room, as the collector does meanwhile; a full ring refuses, which costs less than taking."""
    while ring.read(1 << 20):
        pass


class Run:
    """Rounds of measuring; `samples` has what they found."""

    def __init__(self, config: Config, driver: Actions, plan: Plan, progress: Progress) -> None:
        self.samples = Samples()
        self.missing: dict[str, str] = {}
        self.dropped = 0
        self._config, self._driver, self._plan = config, driver, plan
        self._progress = progress
        self._task = progress.add_task("compiling", total=plan.rounds * 4 * len(plan.actions))

    def warm_up(self) -> None:
        """Every action once: what comes first is slower."""
        for action in self._plan.actions:
            self._driver.run(action, self._plan.share / 10)

    def measure(self) -> None:
        """All rounds, as many at once as `Plan.attached_for` says."""
        for number, first in enumerate(range(0, self._plan.rounds, self._plan.attached_for)):
            rounds = range(first, min(first + self._plan.attached_for, self._plan.rounds))
            for way in (self._bare, self._beside) if number % 2 else (self._beside, self._bare):
                way(rounds)
            self._counted(rounds)
            self._timed(rounds)

    def _each(self, rounds: Sequence[int], how: str) -> Iterator[Action]:
        for number in rounds:
            self._progress.update(self._task, description=f"round {number + 1} of {self._plan.rounds}, {how}")
            for action in self._plan.actions:
                yield action
                self._progress.advance(self._task)

    def _bare(self, rounds: Sequence[int]) -> None:
        for action in self._each(rounds, "without probes"):
            self.samples.call(action.name, self._driver.run(action, self._plan.share), beside=False)

    def _beside(self, rounds: Sequence[int]) -> None:
        with loaded(self._config, self._plan.beside) as (probes, ring):
            for action in self._each(rounds, "beside the probes"):
                self.samples.call(action.name, self._driver.run(action, self._plan.share), beside=True)
                _drain(ring)
            self._take_note(probes)

    def _counted(self, rounds: Sequence[int]) -> None:
        with loaded(self._config, self._plan.probes) as (probes, ring), run_statistics():
            before = {name: program_statistics(fd) for name, fd in probes.programs.items()}
            for action in self._each(rounds, "bpf_stats"):
                self._driver.run(action, self._plan.share)
                _drain(ring)
                for name, fd in probes.programs.items():
                    now, then = program_statistics(fd), before[name]
                    runs = now.run_count - then.run_count
                    self.samples.kernel(action.name, name.split()[0], runs, now.run_time_ns - then.run_time_ns)
                    before[name] = now
            for _number in rounds:
                self._count_nothing()
            self._take_note(probes)

    def _count_nothing(self) -> None:
        # Where there are no such tracepoints, there is no such figure.
        with suppress(OSError, LoadError), nothing_at(_NOWHERE) as program:
            self._driver.run(_NOTHING, self._plan.share)
            counted = program_statistics(program)
            self.samples.nothing(counted.run_count, counted.run_time_ns)

    def _timed(self, rounds: Sequence[int]) -> None:
        with loaded(self._config, self._plan.probes, histogram=True) as (probes, ring):
            before = probes.histograms()
            for action in self._each(rounds, "histograms"):
                self._driver.run(action, self._plan.share)
                _drain(ring)
                after = probes.histograms(before)
                self.samples.inside(action.name, before, after)
                before = after
            self._take_note(probes)

    def _take_note(self, probes: Loaded) -> None:
        self.missing |= {report.name: report.error for report in probes.reports.values() if report.error}
        self.dropped += sum(counters.dropped for _slot, _stream, counters in probes.counters())


def measure(config: Config, plan: Plan, progress: Progress, *, command: str) -> Report:
    """Carry out `plan`.

    Raises:
        ConfigError: the actions cannot be compiled or done.
        LoadError: no probe runs.
    """
    with ExitStack() as stack:
        driver = stack.enter_context(actions())
        run = Run(config, driver, plan, progress)
        if config.collector.cache:
            fill_caches(config, plan.probes)
        run.warm_up()
        began = time.monotonic()
        watch = Watch()
        where = machine()
        run.measure()
    handlers = run.samples.handlers()
    return Report(
        schema=SCHEMA,
        command=command,
        machine=where,
        probes=plan.probes,
        probes_of_calls=plan.beside,
        rounds=plan.rounds,
        seconds=round(time.monotonic() - began, 1),
        clock_ns=run.samples.clock_ns,
        rows=run.samples.rows(load_budgets(), plan.asks_for),
        handlers=handlers,
        calls=run.samples.calls(plan.actions),
        warnings=(*watch.doubts(), *_scattered(run, handlers)),
        left_out=tuple(f"{name}: {error}" for name, error in sorted(run.missing.items())),
        nothing=run.samples.of_nothing,
    )


def _scattered(run: Run, handlers: Sequence[Handler]) -> Iterator[str]:
    if run.dropped:
        yield f"the ring refused {run.dropped} events: refusing one costs less than taking it"
    often = [each for each in handlers if each.inside.n >= _OFTEN]
    wide = [each for each in often if each.inside.by_round.scatter > _SCATTERED]
    if wide:
        worst = max(wide, key=lambda each: each.inside.by_round.scatter)
        yield (
            f"of {len(wide)} of {len(often)} programs the means of single rounds differ by more than half, most of "
            f"{worst.name} in {worst.action}: {worst.inside.by_round.low:,.0f} to {worst.inside.by_round.high:,.0f} ns"
        )
