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

import msgspec

from tests.kernels.debian import Kernel, fetch
from tests.kernels.facts import compile_for
from tests.kernels.module import build
from tests.kernels.qemu import Ended, boot
from tests.kernels.releases import Release
from tests.kernels.selection import Selected
from tests.live.conftest import SOURCES, Programs
from tests.live.guests import Offered

ROOT = Path(__file__).parents[2]
_RESULTS = ROOT / "build" / "kernels"
"""A folder for each kernel: console, dmesg, log and JUnit file of its last run."""

_LIMIT_S = 900.0
"""A guest that is not done by then hangs; one that has a processor for itself takes half of it."""

_TIME_FACTOR = 12
"""How much longer than on this host a live test may wait in a guest."""

# Plugins are not loaded in a guest, for their imports take half a minute there; so what sets them up is unknown.
_WITHOUT_PLUGINS = (
    *("-o", "addopts=--strict-markers --import-mode=importlib"),
    *("-W", "ignore::pytest.PytestConfigWarning"),
)


# What this host adds to the start of every Python, and what structlog imports where it is there, a guest does not see:
# it takes seconds there each time.
_HIDE = """
touch /run/guest/empty
mkdir /run/guest/nothing
for file in /usr/lib/python3*/dist-packages/*.pth /usr/local/lib/python3*/dist-packages/*.pth; do
    [ -e "$file" ] && mount --bind /run/guest/empty "$file"
done
for folder in .venv/lib/python3*/site-packages/rich; do
    [ -e "$folder" ] && mount --bind /run/guest/nothing "$folder"
done
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What every guest runs."""

    forms: tuple[str, ...]
    tests: tuple[Selected, ...]

    programs: Path
    """The helper programs, compiled on this host."""

    @classmethod
    def make(cls, forms: Sequence[str], selection: str, programs: Path) -> Plan:
        """Ask pytest for the tests, which leaves them compiled; compile all else, since no guest can keep it.

        `selection` is an expression as `pytest -k` takes it; empty for all.
        """
        packages = ("probes", "pipeline", "sinks", "tests")
        subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], cwd=ROOT, check=False)
        compiled = Programs(programs)
        for source in SOURCES.glob("*.c"):
            with suppress(subprocess.CalledProcessError):  # that is for the test to say which needs it
                compiled(source.stem)
        for compiler in ("gcc", "musl-gcc"):
            compiled.dynamic("lookup", compiler)
        compiled.java("Starter")
        command = [sys.executable, "-m", "tests.kernels.selection", selection, *forms]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return cls(
            tuple(forms), tuple(msgspec.json.decode(done.stdout.splitlines()[-1], type=list[Selected])), programs
        )

    def on(self, offers: Offered) -> tuple[Selected, ...]:
        """Without the tests of what a kernel cannot have in that form."""
        return tuple(each for each in self.tests if all(has(offers, each, probe) for probe in each.probes))


def has(offers: Offered, test: Selected, probe: str) -> bool:
    """Whether a kernel can run a probe with the test's `--attach`, and sees with it what the test is about."""
    offer = offers.get(test.form, {}).get(probe, {})
    return bool(offer.get("form")) and not (test.sees and test.sees in offer.get("misses", ""))


@dataclass(frozen=True, slots=True)
class Run:
    """One kernel's guest, ended."""

    kernel: Kernel
    offers: Offered
    tests: tuple[Selected, ...]
    """What of the plan this kernel can run."""

    ended: Ended
    outcomes: dict[str, str]
    """By test id: "passed", or why not."""

    log: str
    """The end of what pytest said."""

    def unproven(self, form: str) -> dict[str, str]:
        """What did not pass, and why; a test without a result is among it."""
        found = {each.test: self.outcomes.get(each.test, "no result") for each in self.tests if each.form == form}
        return {test: outcome for test, outcome in found.items() if outcome != "passed"}

    def report(self, form: str) -> str:
        """Why this is a failure, for people; empty if it is none."""
        unproven = self.unproven(form)
        if not self.ended.failure and not unproven:
            return ""
        lines = [f"Linux {self.kernel.version}: {self.ended.failure or 'ended well'}; see {self.ended.results}"]
        lines += [f"{test}: {outcome}" for test, outcome in unproven.items()]
        return "\n".join([*lines, "", self.log])


@dataclass(frozen=True, slots=True)
class Prepared:
    """A kernel with all that this host makes for its guest."""

    kernel: Kernel
    offers: Offered
    module: Path
    said: str
    """By the compiler."""


def prepare(release: Release, forms: Sequence[str]) -> Prepared:
    """Fetch one kernel, compile the probes and the module for it; what is in the cache already is only looked at."""
    kernel = fetch(release)
    offers, said = compile_for(kernel, forms)
    return Prepared(kernel, offers, build(kernel), said)


def run(prepared: Prepared, plan: Plan) -> Run:
    """Boot one kernel and run the plan's tests in it."""
    kernel = prepared.kernel
    tests = plan.on(prepared.offers)
    results = _RESULTS / kernel.release.name
    shutil.rmtree(results, ignore_errors=True)
    folders = [ROOT, kernel.folder, plan.programs]
    ended = boot(kernel, results, _job(plan, tests, prepared), folders, limit_s=_LIMIT_S)
    log = results / "log"
    text = prepared.said + (log.read_text(errors="replace") if log.exists() else "")
    said = "\n".join(text.splitlines()[-100:])
    return Run(kernel, prepared.offers, tests, ended, _outcomes(results / "junit.xml"), said)


def _job(plan: Plan, tests: Sequence[Selected], prepared: Prepared) -> str:
    environment = {
        "HOOKLINE_CACHE": "/run/compiled",
        "HOOKLINE_OFFERED": prepared.kernel.offered,
        "HOOKLINE_PROGRAMS": plan.programs,
        "HOOKLINE_REQUIRE": "live",
        "HOOKLINE_TEST_MODULE": prepared.module,
        "HOOKLINE_TIME_FACTOR": _TIME_FACTOR,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": 1,
        "PYTHONDONTWRITEBYTECODE": 1,
        "SETUPTOOLS_USE_DISTUTILS": "stdlib",  # or a file of setuptools' is imported at each start
    }
    forms = [argument for form in plan.forms for argument in ("--attach", form)]
    command = [sys.executable, "-m", "pytest", *_WITHOUT_PLUGINS, *forms, "--durations=20"]
    return "\n".join(
        [
            f"cd {shlex.quote(os.fspath(ROOT))}",
            _HIDE,
            *(f"export {name}={shlex.quote(str(value))}" for name, value in environment.items()),
            "cat >/tmp/tests <<'END'",
            *(each.test for each in tests),
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
