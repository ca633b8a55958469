# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests that the selected tests need, two at a time on two cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.kernels.matrix import Plan, Run, prepare, run
from tests.kernels.releases import Release
from tests.kernels.results import record
from tests.live.guests import FORMS

_RUNS = pytest.StashKey[list[Run]]()

_LONGEST_FIRST = ("7.x", "6.12", "5.10", "6.1")
"""By what their guests take, so that on two processors both are busy to the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--in-guests", default="", metavar="EXPRESSION", help="of the live tests, run these (as -k) only")
    parser.addoption("--record", action="store_true", help="keep what came out as results.json, and in the README")


def _asked(session: pytest.Session, name: str) -> set[Any]:
    """The values of a parameter that the selected tests have."""
    calls = (getattr(item, "callspec", None) for item in session.items)
    return {call.params[name] for call in calls if call and name in call.params}


@pytest.fixture(scope="session")
def guests(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Release], Run]]:
    """Starts all guests that the session's tests ask for; gives each one's end."""
    option = request.config.getoption
    forms = [form for form in FORMS if form in _asked(request.session, "form")]
    if option("record") and (len(forms) < len(FORMS) or option("in_guests")):
        raise pytest.UsageError("--record needs every form and every test of a kernel: take kernels only, as -k 6.1")
    asked = sorted(_asked(request.session, "release"), key=lambda release: _LONGEST_FIRST.index(release.name))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The longest guest starts as soon as it can; what the others need is made beside it.
        prepared = {release: pool.submit(prepare, release, forms) for release in asked[:2]}
        plan = Plan.make(forms, option("in_guests"), tmp_path_factory.mktemp("programs"))
        ends: dict[Release, Future[Run]] = {}
        for some in (asked[:1], asked[1:]):
            prepared |= {release: pool.submit(prepare, release, forms) for release in some if release not in prepared}
            ends |= {
                release: pool.submit(lambda ready: run(ready.result(), plan), prepared[release]) for release in some
            }
        yield lambda release: ends[release].result()
        request.config.stash[_RUNS] = [end.result() for end in ends.values() if not end.exception()]
        if option("record"):
            record(end.result() for end in ends.values())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for each in config.stash.get(_RUNS, []):
        passed = sum(outcome == "passed" for outcome in each.outcomes.values())
        terminalreporter.write_line(
            f"Linux {each.kernel.version}: {passed} of {len(each.tests)} tests passed; "
            f"{each.ended.seconds:.0f} s, of the processor {each.ended.cpu_s:.0f} s"
        )
