# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor: every condition on its own, and what is known where nothing can run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline import doctor
from pipeline.doctor import check, examine, show
from probes.errors import LoadError, PreflightError
from probes.kernel.features import Host
from probes.kernel.messages import HookReport, ProbeReport, Request
from probes.kernel.uprobes import News
from probes.registry import all_probes


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host on which everything works."""
    (tmp_path / "tracing/events").mkdir(parents=True)
    for name in ("libbcc.py", "vmlinux"):
        (tmp_path / name).touch()
    return Host(
        system="Linux",
        machine="x86_64",
        release="6.1.0-13-amd64",
        uid=0,
        capabilities=-1,
        user_namespace=False,
        bcc=(tmp_path,),
        btf=tmp_path / "vmlinux",
        tracefs=(tmp_path / "tracing",),
    )


class Loader:
    """In the place of the loader child: refuses one probe, attaches the others but for what is optional."""

    error: ClassVar[LoadError | None] = None
    refused = "exit"
    requests: ClassVar[list[Request]]
    closed: ClassVar[int]

    def __init__(self, request: Request) -> None:
        self.requests.append(request)

    def wait(self) -> Loader:
        if self.error:
            raise self.error
        return self

    @property
    def reports(self) -> dict[str, ProbeReport]:
        return {
            name: ProbeReport(name, error="no such hook", log="R0 invalid")
            if name == self.refused
            else ProbeReport(
                name,
                probe.forms[-1].name,
                tuple(HookReport(hook.at, hook.sees, "not here" * hook.optional) for hook in probe.forms[-1].hooks),
            )
            for name, probe in all_probes().items()
        }

    @property
    def uprobes(self) -> Loader:
        return self

    def search(self, _pids: tuple[int, ...], _most: int, tell: Callable[[News], None]) -> bool:
        tell(News("watching a file", "libc", "/lib/libc.so.6"))
        tell(News("a file cannot be watched", "bash", "/bin/bash", "it does not export readline"))
        return True

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_error: object) -> None:
        type(self).closed += 1


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> type[Loader]:
    class Fresh(Loader):
        requests: ClassVar = []
        closed = 0

    monkeypatch.setattr(doctor, "Loading", Fresh)
    return Fresh


def printed(findings: doctor.Findings, capsys: pytest.CaptureFixture[str], *, verbose: bool = False) -> str:
    show(findings, as_json=False, verbose=verbose)
    return capsys.readouterr().out


def test_a_sound_host(host: Host) -> None:
    """Where everything is there, every condition holds, and each says what was found."""
    checks = check(host)
    assert [each.ok for each in checks] == [True] * 7
    details = {each.name: each.detail for each in checks}
    assert details["privileges"] == "user 0"
    assert details["kernel version"] == "6.1.0-13-amd64"
    assert details["tracefs"] == str(host.tracefs[0] / "events")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("privileges", {"uid": 1000, "capabilities": 0}),
        ("privileges", {"user_namespace": True}),
        ("process ids", {"pid_namespace": 1}),
        ("machine", {"machine": "aarch64"}),
        ("kernel types", {"btf": Path("absent")}),
        ("bcc", {"bcc": None}),
        ("tracefs", {"tracefs": (Path("absent"),)}),
        ("kernel version", {"release": "4.19.0"}),
    ],
)
def test_one_fault(host: Host, loader: type[Loader], name: str, change: dict[str, Any]) -> None:
    """One fault fails one condition; nothing is loaded then, but the probes and their hooks are listed."""
    findings = examine(replace(host, **change))
    assert [each.name for each in findings.checks if not each.ok] == [name]
    assert loader.requests == []
    assert not findings.ok
    assert [probe.name for probe in findings.probes] == list(all_probes())
    assert all(hook.missing == "not tried, see above" for probe in findings.probes for hook in probe.hooks)


def test_all_faults_are_told_at_once(host: Host) -> None:
    """Several faults are all told, privileges first, though the collector itself ends with the first."""
    broken = replace(host, uid=1000, capabilities=0, bcc=None, release="4.19.0")
    failed = [(each.name, each.detail) for each in check(broken) if not each.ok]
    assert [name for name, _ in failed] == ["privileges", "bcc", "kernel version"]
    assert "sudo" in failed[0][1]


def test_a_condition_that_the_doctor_does_not_know(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A condition that is new in preflight is not passed over."""

    def preflight(asked: Host) -> None:
        if asked.release == host.release and asked.bcc == host.bcc:
            raise PreflightError("the moon is full: wait")

    monkeypatch.setattr(doctor, "preflight", preflight)
    assert [(each.name, each.detail) for each in check(host) if not each.ok] == [("other", "the moon is full: wait")]


def test_probes_are_tried(host: Host, loader: type[Loader], capsys: pytest.CaptureFixture[str]) -> None:
    """Every probe is loaded and let go; the table says of each hook whether it is attached or why not."""
    findings = examine(host)
    assert [sorted(request.probes) for request in loader.requests] == [sorted(all_probes())]
    assert loader.closed == 1
    assert findings.ok
    text = printed(findings, capsys)
    running = ", ".join(name for name in all_probes() if name != "exit")
    assert f"These probes run: {running}." in " ".join(text.split())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "tracepoint:syscalls:sys_exit_execve failed execve(2) MISSING: not here" in lines
    sees = "exit 60 raw_tracepoint:sched_process_exit the end of every process"
    assert f"{sees} MISSING: no such hook" in lines
    assert any(line.startswith("create_file does not see mknod(2), ") for line in lines)
    assert "uretprobe:libc:getaddrinfo what was found attached to 1 file" in lines
    assert "uretprobe:bash:readline lines of bash attached to 0 files" in [
        line.removeprefix("shell_line 805 uprobe ") for line in lines
    ]
    assert "libc: /lib/libc.so.6" in lines
    assert "bash: /bin/bash cannot be watched: it does not export readline" in lines


def test_logs_are_for_who_asks(host: Host, loader: type[Loader], capsys: pytest.CaptureFixture[str]) -> None:
    """The verifier's log is shown with --verbose, and always in JSON."""
    findings = examine(host)
    assert loader.closed == 1
    assert "R0 invalid" not in printed(findings, capsys)
    assert "exit: R0 invalid" in printed(findings, capsys, verbose=True)
    assert show(findings, as_json=True, verbose=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert {probe["name"]: probe["log"] for probe in told["probes"]}["exit"] == "R0 invalid"
    assert (told["ok"], told["kernel"]) == (True, "6.1.0-13-amd64")


def test_a_loader_that_fails(host: Host, loader: type[Loader], capsys: pytest.CaptureFixture[str]) -> None:
    """Where the compiler fails no probe runs: exit code 2, and each says why."""
    loader.error = LoadError("the probes do not compile", "line 1")
    findings = examine(host)
    assert {probe.error for probe in findings.probes} == {"the probes do not compile"}
    assert show(findings, as_json=False, verbose=False) == 2
    assert "Nothing can run here." in capsys.readouterr().out
