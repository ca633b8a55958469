# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in each guest, and what came out of it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.debian import Kernel, fetch
from tests.kernels.facts import compile_for
from tests.kernels.qemu import Ended, boot
from tests.kernels.releases import Release
from tests.live.conftest import SOURCES, Programs

ROOT = Path(__file__).parents[2]
_RESULTS = ROOT / "build" / "kernels"
"""A folder for each kernel: console, dmesg, log and JUnit file of its last run."""

FORMS = ("fentry", "kprobe", "tracepoint")
"""Each a run of the live tests with `--attach` and that form; a probe without it takes its best."""

_LIMIT_S = 600.0
"""A guest that is not done by then hangs."""

_TIME_FACTOR = 12
"""How much longer than on this host a live test may wait in a guest."""

_LIVE = ("-p", "no:cacheprovider", "-m", "guest", "tests/live")
# Plugins are not loaded in a guest, for their imports take half a minute there; so what sets them up is unknown.
_WITHOUT_PLUGINS = (
    *("-o", "addopts=--strict-markers --import-mode=importlib"),
    *("-W", "ignore::pytest.PytestConfigWarning"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What every guest runs."""

    tests: dict[str, tuple[str, ...]]
    """The ids of live tests, by form."""

    programs: Path
    """The helper programs, compiled on this host."""

    @classmethod
    def make(cls, forms: Sequence[str], selection: str, programs: Path) -> Plan:
        """Ask pytest for the tests, which leaves them compiled; compile all else, since no guest can keep it.

        `selection` is an expression as `pytest -k` takes it; empty for all.
        """
        subprocess.run([sys.executable, "-m", "compileall", "-q", "probes", "pipeline", "sinks"], cwd=ROOT, check=False)
        compiled = Programs(programs)
        for source in SOURCES.glob("*.c"):
            with suppress(subprocess.CalledProcessError):  # that is for the test to say which needs it
                compiled(source.stem)
        return cls({form: _collected(form, selection) for form in forms}, programs)


def _collected(form: str, selection: str) -> tuple[str, ...]:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--attach", form, *_LIVE, "-k", selection]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = (line for line in done.stdout.splitlines() if "::" in line)
    # Each test once, with the first of its parameters: for all of them there is no time.
    return tuple({test.partition("[")[0]: test for test in reversed([*tests])}.values())[::-1]


@dataclass(frozen=True, slots=True)
class Run:
    """One kernel's guest, ended."""

    kernel: Kernel
    ended: Ended
    outcomes: dict[str, str]
    """By test id: "passed", or why not."""

    log: str
    """The end of what pytest said."""

    def unproven(self, tests: tuple[str, ...]) -> dict[str, str]:
        """What did not pass, and why; a test without a result is among it."""
        found = {test: self.outcomes.get(test, "no result") for test in tests}
        return {test: outcome for test, outcome in found.items() if outcome != "passed"}

    def report(self, tests: tuple[str, ...]) -> str:
        """Why this is a failure, for people; empty if it is none."""
        unproven = self.unproven(tests)
        if not self.ended.failure and not unproven:
            return ""
        lines = [f"Linux {self.kernel.version}: {self.ended.failure or 'ended well'}; see {self.ended.results}"]
        lines += [f"{test}: {outcome}" for test, outcome in unproven.items()]
        return "\n".join([*lines, "", self.log])


def run(release: Release, plan: Plan) -> Run:
    """Boot one kernel and run the plan's tests in it."""
    kernel = fetch(release)
    said = compile_for(kernel, list(plan.tests))
    results = _RESULTS / release.name
    shutil.rmtree(results, ignore_errors=True)
    ended = boot(kernel, results, _job(plan, kernel), [ROOT, kernel.folder, plan.programs], limit_s=_LIMIT_S)
    log = results / "log"
    text = said + (log.read_text(errors="replace") if log.exists() else "")
    return Run(kernel, ended, _outcomes(results / "junit.xml"), "\n".join(text.splitlines()[-100:]))


def _job(plan: Plan, kernel: Kernel) -> str:
    environment = {
        "HOOKLINE_CACHE": "/run/compiled",
        "HOOKLINE_MODULES": kernel.modules,
        "HOOKLINE_PROGRAMS": plan.programs,
        "HOOKLINE_REQUIRE": "live",
        "HOOKLINE_TIME_FACTOR": _TIME_FACTOR,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": 1,
        "PYTHONDONTWRITEBYTECODE": 1,
    }
    forms = [argument for form in plan.tests for argument in ("--attach", form)]
    tests = [test for of_form in plan.tests.values() for test in of_form]
    command = [sys.executable, "-m", "pytest", *_WITHOUT_PLUGINS, *forms, "--durations=20"]
    return "\n".join(
        [
            f"cd {shlex.quote(os.fspath(ROOT))}",
            *(f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()),
            "cat >/tmp/tests <<'END'",
            *tests,
            "END",
            f"exec {shlex.join(command)} -p no:cacheprovider --junitxml=/run/results/junit.xml @/tmp/tests",
            "",
        ]
    )


def _outcomes(junit: Path) -> dict[str, str]:
    """What a JUnit file says, by pytest's own ids; nothing where a guest did not come to write one."""
    if not junit.exists():
        return {}
    outcomes = {}
    for case in ET.parse(junit).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        trouble = [child for child in case if child.tag in {"failure", "error", "skipped"}]
        outcomes[test] = "; ".join(f"{child.tag}: {child.get('message')}" for child in trouble) or "passed"
    return outcomes
