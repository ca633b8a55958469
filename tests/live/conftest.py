# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper programs, and a collector that the tests of one file share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.live import guests, needs
from tests.live.collector import Collector

SOURCES = Path(__file__).parent / "programs"


class Programs:
    """The C programs beside this file, compiled when they are asked for."""

    def __init__(self, folder: Path, ready: Path | None = None) -> None:
        """`ready`: where some are already; a guest compiles thirty times slower than the host that made these."""
        self._folder = folder
        self._ready = ready

    def __call__(self, name: str) -> Path:
        """The executable of ``programs/NAME.c``. It is static: no file but its own is opened or mapped."""
        program = self._place(name)
        if not program.exists():
            bare = ["-nostdlib"] if name == "nop" else ["-pthread"]
            source = SOURCES / f"{name}.c"
            subprocess.run(["gcc", "-O1", "-static", *bare, "-o", program, source], check=True)
        return program

    def dynamic(self, name: str, *compiler: str) -> Path:
        """As above, linked with the C library that the compiler is for; by default `gcc`, and the host's."""
        command = compiler or ("gcc",)
        program = self._place("-".join([name, *command]).replace("/", "_"))
        if not program.exists():
            subprocess.run([*command, "-O1", "-pthread", "-o", program, SOURCES / f"{name}.c"], check=True)
        return program

    def java(self, name: str) -> Path:
        """The folder of ``NAME.class``, which every JDK since 11 runs."""
        folder = self._place("classes")
        if not (folder / f"{name}.class").exists():
            subprocess.run(["javac", "--release", "11", "-d", folder, SOURCES / f"{name}.java"], check=True)
        return folder

    def _place(self, name: str) -> Path:
        return self._ready / name if self._ready and (self._ready / name).exists() else self._folder / name


@pytest.fixture(scope="session", autouse=True)
def compiled_probes(tracefs: Path) -> None:
    """All probes are in the cache, so that no test waits for the compiler but those that mean to."""
    if "HOOKLINE_PROGRAMS" in os.environ:
        return  # a guest compiles what its few tests need
    command = [sys.executable, "-m", "pipeline.cli", "compile", "--probe", "all"]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    ready = os.environ.get("HOOKLINE_PROGRAMS")
    return Programs(tmp_path_factory.mktemp("programs"), Path(ready) if ready else None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    forms = metafunc.config.getoption("attach")
    if forms and "attach" in metafunc.fixturenames:
        forms = guests.forms_of(metafunc.definition, forms)
        metafunc.parametrize("attach", forms, indirect=True, scope="session")


@pytest.fixture(scope="session")
def attach(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The form of the probes that collectors ask for; None for the best one."""
    form: str | None = getattr(request, "param", None)
    with pytest.MonkeyPatch.context() as patch:
        if form:
            patch.setenv("HOOKLINE_ATTACH", form)
        yield form


def _shared_by(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """With `--attach`, all files share one collector: a start takes longest where time is short, in a guest."""
    return "session" if config.getoption("attach") else "module"


@pytest.fixture(scope=_shared_by)
def collector(attach: str | None, tracefs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Every probe, AF_UNIX connections too. After the last test that shares it, its ledger must close."""
    tables = {"collector": {"probes": guests.probes_for(attach), "unix_sockets": True}}
    with Collector(tmp_path_factory.mktemp("collector"), tables) as running:
        [said] = running.wait_for_log("collecting")
        assert guests.forms_for(attach).items() <= said["forms"].items(), running.log()
        yield running
        running.stop().check()


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that other users can enter; pytest's own are for root alone."""
    folder = Path("/var/tmp") / tmp_path_factory.mktemp("become").parent.name / str(os.getpid())
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    yield folder
    shutil.rmtree(folder.parent)


@pytest.hookimpl(specname="pytest_collection_modifyitems")
def pytest_what_cannot_run(config: pytest.Config, items: list[pytest.Item]) -> None:
    needs.deselect(config, items)


@pytest.hookimpl(specname="pytest_terminal_summary")
def pytest_what_was_left_out(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    needs.tell(terminalreporter, config)
