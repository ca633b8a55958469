# SPDX-License-Identifier: GPL-2.0-or-later
"""Probes are loaded one by one: what breaks costs itself alone, and what is in the cache needs no compiler."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import bcc
import pytest

from tests.live.accounts import Outcome
from tests.live.collector import ROOT
from tests.live.tools import LIMIT_S, Tables, toml, until

SPINE = ("connect", "create_file", "execve", "exit", "fork")

DECLARATION = """
from probes.event import ProcessEvent
from probes.probe import Form, Hook, Probe

class Broken(ProcessEvent, gc=False):
    '''Made to fail.'''
    data_type = {number}
    event_name = "{name}"
    dataset = category = "process"
    action_type = "info"
    def summary(self):
        return ""

PROBE = Probe(Broken, (Form("tracepoint", (Hook("{name}_run", "tracepoint", "{target}"),)),))
"""

CODE = """
int {name}_run(struct hl_sys_exit *ctx)
{{
	struct hl_record *record;
{line}
	record = hl_begin(HL_KIND_{upper}, HL_SLOT_{upper}, HL_SIZE_{upper});
	if (record)
		hl_submit(record);
	return 0;
}}
"""

SETSID = "syscalls:sys_exit_setsid"

BROKEN = {
    "no_c": (SETSID, "	this is no C;", "does not compile"),
    "no_proof": (
        SETSID,
        "	if (!*(u64 *)(bpf_ktime_get_ns()))\n		return 0;",
        "the kernel refused no_proof_run",
    ),
    "no_context": (SETSID, "	if (((u64 *)ctx)[100])\n		return 0;", f"cannot attach to tracepoint:{SETSID}"),
    "no_place": ("syscalls:sys_exit_nothing", "", "this kernel has no tracepoint syscalls:sys_exit_nothing"),
}
"""What is wrong with a probe: its tracepoint, its line of C, the reason that must be told."""


@pytest.fixture
def sources(tracefs: Path, tmp_path: Path) -> Path:
    """A copy of the packages, to be changed."""
    place = tmp_path / "sources"
    for package in ("pipeline", "probes", "sinks"):
        shutil.copytree(ROOT / package, place / package, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def add_probe(sources: Path, name: str, number: int, target: str = SETSID, line: str = "") -> None:
    path = sources / "probes/process" / name
    path.with_suffix(".py").write_text(DECLARATION.format(name=name, number=number, target=target))
    path.with_suffix(".c").write_text(CODE.format(name=name, upper=name.upper(), line=line))


class Run:
    """The collector of a copy of the packages."""

    def __init__(self, sources: Path, probes: list[str], cache: str = "") -> None:
        self.folder = sources.parent
        tables: Tables = {
            "collector": {"probes": probes, "cache": cache},
            "metrics": {"listen": ""},
            "sinks.file": {"type": "file", "path": str(self.folder / "events.ndjson"), "when_full": "block"},
        }
        (self.folder / "config.toml").write_text(toml(tables))
        self.log_file = self.folder / "log"
        self.temporary = self.folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pipeline.cli", "run", "--config", str(self.folder / "config.toml")]
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--ledger", str(self.folder / "ledger.json")],
                cwd=sources,
                stderr=log,
                stdout=subprocess.DEVNULL,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()

    def log(self, event: str) -> list[dict[str, str]]:
        """What it said under that name."""
        lines = [line for line in self.log_file.read_bytes().splitlines() if line.startswith(b"{")]
        return [line for line in map(json.loads, lines) if line["event"] == event]

    def wait_for(self, event: str) -> dict[str, str]:
        def look() -> list[dict[str, str]]:
            assert self.process.poll() is None, self.log_file.read_text()
            return self.log(event)

        return until(look, event)[0]

    def executed(self) -> None:
        """Return when an execution was told that began after this call."""
        name = f"loading-{self.process.pid}-{id(self)}"
        subprocess.run(["true", name], check=True)
        output = self.folder / "events.ndjson"
        until(lambda: output.exists() and name in output.read_text(errors="replace"), "an execution")

    def stop(self) -> Outcome:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LIMIT_S) == 0, self.log_file.read_text()
        ledger = json.loads((self.folder / "ledger.json").read_text())
        return Outcome(ledger, [], 0.0, self.log_file.read_text())


def test_a_broken_probe_costs_itself_alone(sources: Path) -> None:
    """A probe that cannot be compiled, verified, attached or had at all is told with its reason; the others run."""
    for number, (name, (target, line, _reason)) in enumerate(BROKEN.items(), 9000):
        add_probe(sources, name, number, target, line)
    add_probe(sources, "sound", 9100)
    with Run(sources, [*SPINE, *BROKEN, "sound"]) as run:
        told = run.wait_for("collecting")["probes"]
        assert sorted(told) == sorted([*SPINE, "sound"])
        reasons = {line["probe"]: line["reason"] for line in run.log("a probe does not run")}
        assert reasons.keys() == BROKEN.keys()
        for name, (_target, _line, reason) in BROKEN.items():
            assert reason in reasons[name]
        run.executed()
        subprocess.run(["setsid", "true"], check=True)
        ledger = run.stop().ledger
    assert ledger["closed"]
    assert ledger["kinds"]["sound"]["emitted"] > 0


def without_compiler(sources: Path) -> None:
    """From here on the compiler cannot be imported, though it is found."""
    package = sources / "bcc"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('the compiler was asked for')\n")
    (package / "libbcc.py").touch()
    shutil.copy(Path(bcc.__file__).with_name("version.py"), package)


def fill(sources: Path, cache: Path) -> str:
    """`hookline compile` for the first probes; what it said."""
    config = sources.parent / "config.toml"
    config.write_text(toml({"collector": {"probes": list(SPINE), "cache": str(cache)}}))
    command = [sys.executable, "-m", "pipeline.cli", "compile", "--config", str(config)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_start_from_the_cache_needs_no_compiler(sources: Path, tmp_path: Path) -> None:
    """After `hookline compile` the probes run though bcc cannot be imported; with an empty cache they do not."""
    cache = tmp_path / "cache"
    assert "5 of them new" in fill(sources, cache)
    assert "0 of them new" in fill(sources, cache)
    without_compiler(sources)
    with Run(sources, list(SPINE), str(cache)) as run:
        assert sorted(run.wait_for("collecting")["probes"]) == sorted(SPINE)
        run.executed()
        assert run.stop().ledger["closed"]
    with Run(sources, list(SPINE), str(tmp_path / "empty")) as run:
        assert run.process.wait(LIMIT_S) != 0
        assert "the loader ended with" in run.log_file.read_text()


def test_a_changed_probe_is_compiled_again(sources: Path, tmp_path: Path) -> None:
    """A changed source file makes its probe alone new."""
    cache = tmp_path / "cache"
    fill(sources, cache)
    with (sources / "probes/process/exit.c").open("a") as file:
        file.write("/* changed */\n")
    assert "1 of them new" in fill(sources, cache)


def test_stopping_while_probes_are_compiled(sources: Path) -> None:
    """SIGTERM while a probe is still compiled ends in good order and leaves nothing behind."""
    pipe = sources.parent / "pipe.h"
    os.mkfifo(pipe)  # where its compiler waits for ever
    add_probe(sources, "late", 9000, line=f'#include "{pipe}"')
    with Run(sources, [*SPINE, "late"]) as run:
        run.wait_for("the first probes are attached")
        run.executed()
        outcome = run.stop()
        assert not run.log("collecting")
    assert outcome.ledger["closed"]
    assert "Traceback" not in outcome.said
    assert not list(run.temporary.iterdir())
