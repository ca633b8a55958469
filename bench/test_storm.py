# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm of executions, each of a program that was never seen before, beside auditd under the very same load."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

PROGRAMS = Path(__file__).parent / "programs"
NOP = Path(__file__).parents[1] / "tests" / "live" / "programs" / "nop.c"

RATE = 1_600
SECONDS = 30
PASSES = 2
"""Of the collector and of auditd, in turn."""

_TICKS = os.sysconf("SC_CLK_TCK")

_AUDITD = """
log_file = {folder}/audit.log
log_format = RAW
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 4096
max_log_file_action = IGNORE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
"""


def cpu_s(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def kernel_thread(name: str) -> int:
    """The pid of a kernel thread; 0: there is none."""
    found = subprocess.run(["pgrep", "-x", name], capture_output=True, text=True, check=False).stdout.split()
    return int(found[0]) if found else 0


def peak_mib(pid: int) -> float:
    """Most resident memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The storm's program, and as many others as it runs in one pass after the other, all different."""
    if os.geteuid() != 0:
        pytest.skip("to load programs into the kernel needs root")
    folder = tmp_path_factory.mktemp("storm")
    subprocess.run(["gcc", "-O2", "-o", folder / "execstorm", PROGRAMS / "execstorm.c"], check=True)
    subprocess.run(["gcc", "-O1", "-static", "-nostdlib", "-s", "-o", folder / "nop", NOP], check=True)
    nop = (folder / "nop").read_bytes()
    (folder / "programs").mkdir()
    for number in range(RATE * SECONDS * PASSES):
        program = folder / "programs" / str(number)
        program.write_bytes(nop + b"%d" % number)
        program.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def storm(tools: Path, number: int) -> float:
    """One pass; gives its seconds."""
    count = RATE * SECONDS
    command: list[str | Path] = [tools / "execstorm", str(RATE), str(number * count), str(count), tools / "programs"]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=SECONDS * 10).stdout)


@contextlib.contextmanager
def collector(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The collector with its defaults, but that it writes to a file."""
    config = folder / "config.toml"
    config.write_text(
        f'[metrics]\nlisten = ""\n[sinks.file]\ntype = "file"\npath = "{folder}/events"\nrotate_bytes = 0\n'
    )
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pipeline.cli",
        "run",
        "--config",
        config,
        "--ledger",
        folder / "ledger",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as running:
        until_said(folder / "log", b'"collecting"')
        yield running


def until_said(log: Path, what: bytes) -> None:
    deadline = time.monotonic() + 120
    while what not in log.read_bytes():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def collected(tools: Path, number: int, folder: Path) -> dict[str, Any]:
    """A pass under the collector; every execution must be there with its own digest, and the ledger closed."""
    folder.mkdir()
    with collector(folder) as running:
        before = cpu_s(running.pid)
        seconds = storm(tools, number)
        used = cpu_s(running.pid) - before
        memory = peak_mib(running.pid)
        time.sleep(0.3)
        used_in_all = cpu_s(running.pid) - before
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, (folder / "log").read_text()
    ledger = json.loads((folder / "ledger").read_bytes())
    assert ledger["closed"] is True
    lost = sum(kind["dropped_ring"] for kind in ledger["kinds"].values())
    statuses: dict[str, int] = {}
    with (folder / "events").open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"data_type":"59"') and f'"exe":"{tools}/programs/'.encode() in line:
                event = json.loads(line)
                status = event["exe_hash_status"]
                statuses[status] = statuses.get(status, 0) + 1
                if status == "verified":
                    content = Path(event["exe"]).read_bytes()
                    assert event["exe_md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert lost == 0
    assert statuses == {"verified": RATE * SECONDS}
    return {"seconds": seconds, "cpu_s": round(used, 2), "cpu_s_till_done": round(used_in_all, 2), "peak_mib": memory}


def audited(tools: Path, number: int, folder: Path) -> dict[str, Any]:
    """A pass under auditd with the rule that tells executions."""
    folder.mkdir()
    (folder / "auditd.conf").write_text(_AUDITD.format(folder=folder))
    daemon = subprocess.Popen(["auditd", "-n", "-c", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_said_by_audit()
        rule = ["-a", "always,exit", "-F", "arch=b64", "-S", "execve,execveat"]
        for command in (["-D"], ["-b", "65536"], rule, ["-e", "1"]):
            subprocess.run(["auditctl", *command], check=True, capture_output=True)
        thread = kernel_thread("kauditd")
        before, before_thread = cpu_s(daemon.pid), cpu_s(thread) if thread else 0.0
        seconds = storm(tools, number)
        used, used_thread = cpu_s(daemon.pid) - before, (cpu_s(thread) - before_thread) if thread else 0.0
        memory = peak_mib(daemon.pid)
        said = subprocess.run(["auditctl", "-s"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run(["auditctl", "-D"], check=False, capture_output=True)
        subprocess.run(["auditctl", "-e", "0"], check=False, capture_output=True)
        daemon.terminate()
        daemon.wait(30)
    lost = next(int(line.split()[1]) for line in said.splitlines() if line.startswith("lost"))
    with (folder / "audit.log").open("rb") as lines:
        told = sum(b"type=SYSCALL" in line and b'exe="%b/programs/' % os.fsencode(tools) in line for line in lines)
    return {
        "seconds": seconds,
        "cpu_s": round(used, 2),
        "kauditd_cpu_s": round(used_thread, 2),
        "peak_mib": memory,
        "executions": told,
        "lost": lost,
    }


def until_said_by_audit() -> None:
    deadline = time.monotonic() + 20
    while True:
        said = subprocess.run(["auditctl", "-s"], check=False, capture_output=True, text=True).stdout
        if any(line.startswith("pid") and line.split()[1] != "0" for line in said.splitlines()):
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def test_storm(benchmark: BenchmarkFixture, tools: Path, tmp_path: Path) -> None:
    """1,600 executions a second for 30 s, each of another program: each told with its digest, beside auditd in turn."""
    passes: list[dict[str, Any]] = []

    def run() -> None:
        number = len(passes)
        one = {"collector": collected(tools, number, tmp_path / f"collector{number}")}
        if shutil.which("auditd") and shutil.which("auditctl"):
            one["auditd"] = audited(tools, number, tmp_path / f"auditd{number}")
        one["load"] = {"minute": os.getloadavg()[0]}
        passes.append(one)

    benchmark.pedantic(run, rounds=PASSES)  # type: ignore[no-untyped-call]
    benchmark.extra_info["rate"] = RATE
    benchmark.extra_info["passes"] = passes
