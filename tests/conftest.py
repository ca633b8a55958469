# SPDX-License-Identifier: GPL-2.0-or-later
"""What all tests share: suites by folder, skips that can be forbidden, tracefs for live tests."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.servers.elasticsearch import Elasticsearch
    from tests.servers.kafka import Kafka
    from tests.servers.running import AnyServer

TESTS = Path(__file__).parent
TRACEFS = Path("/sys/kernel/tracing")
SUITES = frozenset({"live", "services", "kernels", "faults"})
"""Folders of tests/ whose tests carry the folder's name as a marker."""

REQUIRED = pytest.StashKey[frozenset[str]]()
SKIPS = pytest.StashKey[Counter[tuple[str, str]]]()

if not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):  # as in a guest, where importing it takes half a minute
    from hypothesis import settings

    # The same examples on every run. To look for new ones: pytest --hypothesis-profile=default
    settings.register_profile("hookline", derandomize=True, database=None, deadline=None)
    settings.load_profile("hookline")


def suite_of(path: Path) -> str:
    """The folder of tests/ that ``path`` is in."""
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else path.name


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why ``report`` says that something was skipped."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--attach",
        action="append",
        default=[],
        metavar="FORM",
        help="run the live tests that share a collector once with it, with this form of its probes; can be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    required = frozenset(filter(None, os.environ.get("HOOKLINE_REQUIRE", "").replace(" ", "").split(",")))
    if unknown := required - SUITES:
        raise pytest.UsageError(
            f"HOOKLINE_REQUIRE names {', '.join(sorted(unknown))}; it takes a comma-separated list of "
            f"{', '.join(sorted(SUITES))}"
        )
    config.stash[REQUIRED] = required
    config.stash[SKIPS] = Counter()


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (suite := suite_of(item.path)) in SUITES:
            item.add_marker(suite)
        if os.geteuid() != 0 and item.get_closest_marker("live"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        judge_skip(item.config, report, {mark.name for mark in item.iter_markers()}, item.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:  # the whole file: pytest.importorskip, or pytest.skip at module level
        judge_skip(collector.config, report, {suite_of(collector.path)}, collector.path)
    return report


def judge_skip(
    config: pytest.Config, report: pytest.TestReport | pytest.CollectReport, names: set[str], path: Path
) -> None:
    """Count a skip for the summary, or make it a failure where HOOKLINE_REQUIRE forbids it."""
    reason = reason_of(report)
    required = config.stash[REQUIRED]
    if forbidden := required & names:
        report.outcome = "failed"
        report.longrepr = f"HOOKLINE_REQUIRE={','.join(sorted(forbidden))} forbids to skip: {reason}"
    else:
        config.stash[SKIPS][suite_of(path), reason] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skips := config.stash[SKIPS]:
        terminalreporter.section("skipped, and why")
        for (suite, reason), count in sorted(skips.items()):
            terminalreporter.write_line(f"{suite}: {count} skipped: {reason}")


def tracefs_mounted() -> bool:
    mounts = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
    return any(mount[1:3] == [str(TRACEFS), "tracefs"] for mount in mounts)


@pytest.fixture(scope="session")
def tracefs() -> Iterator[Path]:
    """Where tracefs is mounted. What was not mounted before the session is not mounted after it."""
    if tracefs_mounted():
        yield TRACEFS
        return
    subprocess.run(["mount", "-t", "tracefs", "tracefs", TRACEFS], check=True)
    try:
        yield TRACEFS
    finally:
        subprocess.run(["umount", TRACEFS], check=True)


@pytest.fixture(autouse=True)
def _live_tests_have_tracefs(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("live"):
        request.getfixturevalue("tracefs")


def server(name: str) -> Iterator[AnyServer]:
    # Imported here: a guest has no use for them, and importing takes seconds there.
    from tests.servers.artifacts import ServersUnavailable
    from tests.servers.running import of_session

    try:
        with of_session(name) as running:
            yield running
    except ServersUnavailable as error:
        pytest.skip(f"servers cannot be had: {error}")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A real broker, which all tests share."""
    yield from server("kafka")  # type: ignore[misc] # the name says which


@pytest.fixture(scope="session")
def elasticsearch_8() -> Iterator[Elasticsearch]:
    """A real node of version 8 without TLS, which all tests share."""
    yield from server("elasticsearch-8")  # type: ignore[misc] # the name says which


@pytest.fixture(scope="session")
def elasticsearch_9() -> Iterator[Elasticsearch]:
    """A real node of version 9 behind TLS and passwords, with a tiny write queue, which all tests share."""
    yield from server("elasticsearch-9")  # type: ignore[misc] # the name says which
