# SPDX-License-Identifier: GPL-2.0-or-later
"""The helper programs, and a collector that the tests of one file share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.collector import Collector

SOURCES = Path(__file__).parent / "programs"


class Programs:
    """The C programs beside this file, compiled when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str) -> Path:
        """The executable of ``programs/NAME.c``. It is static: no file but its own is opened or mapped."""
        program = self._folder / name
        if not program.exists():
            bare = ["-nostdlib"] if name == "nop" else ["-pthread"]
            source = SOURCES / f"{name}.c"
            subprocess.run(["gcc", "-O1", "-static", *bare, "-o", program, source], check=True)
        return program

    def dynamic(self, name: str, *compiler: str) -> Path:
        """As above, linked with the C library that the compiler is for; by default `gcc`, and the host's."""
        command = compiler or ("gcc",)
        program = self._folder / "-".join([name, *command]).replace("/", "_")
        if not program.exists():
            subprocess.run([*command, "-O1", "-pthread", "-o", program, SOURCES / f"{name}.c"], check=True)
        return program


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def collector(tracefs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """Every probe, AF_UNIX connections too. After the file's last test its ledger must close."""
    tables = {"collector": {"probes": ["all"], "unix_sockets": True}}
    with Collector(tmp_path_factory.mktemp("collector"), tables) as running:
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
