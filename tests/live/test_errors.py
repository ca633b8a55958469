# SPDX-License-Identifier: GPL-2.0-or-later
"""How the command fails on a host that lacks something, and what it tells of one that does not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from probes.registry import all_probes
from tests.live.tools import NEED_MODULES

ROOT = Path(__file__).parents[2]
HOOKLINE = (sys.executable, "-m", "pipeline.cli")
LIMIT_S = 60

NO_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
"""Root without privileges, as in a container."""


def after(script: str) -> tuple[str, ...]:
    """Runs the rest of the command line in a mount namespace of its own, after `script` (sh)."""
    return ("unshare", "--mount", "sh", "-c", f'{script}; exec "$@"', "sh")


NO_TRACEFS = after("umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug")
NO_BTF = after("mount -t tmpfs none /sys/kernel/btf")
NO_EVENTS = after("mount -t tmpfs none /sys/kernel/tracing/events/syscalls")

NO_BCC = (
    sys.executable,
    "-c",
    "import sys; sys.modules['bcc'] = None; sys.argv[:3] = []; from pipeline.cli import main; main()",
)
"""Hides the package; the rest of the command line is `HOOKLINE` and its arguments."""

HOSTS = {
    "privileges": (NO_CAPABILITIES, "lacks CAP_BPF and CAP_PERFMON", "--privileged"),
    "tracefs": (NO_TRACEFS, "tracefs is not mounted", "mount -t tracefs"),
    "kernel types": (NO_BTF, "/sys/kernel/btf/vmlinux is missing", "CONFIG_DEBUG_INFO_BTF"),
    "bcc": (NO_BCC, "the Python package bcc is not there", "apt-get install python3-bpfcc"),
}
"""What is missing, by the doctor's name for it: how to take it away, what is said, and the remedy."""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    # sh tells on standard error what was not mounted in the first place.
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("umount:")]


@pytest.mark.parametrize("missing", HOSTS)
@pytest.mark.parametrize("command", ["run", "record"])
def test_what_the_host_lacks_is_one_sentence(missing: str, command: str, tmp_path: Path) -> None:
    """Without privileges, tracefs, BTF or bcc: one sentence with its remedy, exit code 2, no traceback."""
    without, problem, remedy = HOSTS[missing]
    file = [str(tmp_path / "x")] if command == "record" else []
    done = run(*without, *HOOKLINE, command, *file)
    [sentence] = complaints(done)
    assert sentence.startswith("hookline: ")
    assert problem in sentence
    assert remedy in sentence
    assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "record"])
def test_no_probe_can_run(command: str, tmp_path: Path) -> None:
    """Where the kernel has no hook for any of the probes: one sentence that says why, exit code 2, no traceback."""
    file = [str(tmp_path / "x")] if command == "record" else []
    done = run(*NO_EVENTS, *HOOKLINE, command, "--probe", "prctl", "--probe", "setsid", *file)
    [sentence] = complaints(done)
    assert sentence.startswith("hookline: no probe can run here (setsid: ")
    assert "; prctl: " in sentence
    assert "`hookline doctor`" in sentence
    assert (done.returncode, done.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", HOSTS)
def test_the_doctor_says_what_is_missing(missing: str) -> None:
    """On such a host the doctor fails the one condition, lists every probe all the same, and exits with 2."""
    without, problem, _remedy = HOSTS[missing]
    done = run(*without, *HOOKLINE, "doctor", "--json")
    findings = json.loads(done.stdout)
    [failed] = [each for each in findings["checks"] if not each["ok"]]
    assert failed["name"] == missing
    assert problem in failed["detail"]
    assert [probe["name"] for probe in findings["probes"]] == list(all_probes())
    assert (complaints(done), done.returncode, findings["ok"]) == ([], 2, False)


def test_the_doctor_on_this_host() -> None:
    """Every probe that this kernel can have runs: each hook is attached, or missing with its reason."""
    done = run(*HOOKLINE, "doctor", "--json")
    findings = json.loads(done.stdout)
    assert (done.stderr, done.returncode, findings["ok"]) == ("", 0, True)
    assert findings["kernel"] == os.uname().release
    for probe in findings["probes"]:
        if not probe["runs"]:
            assert probe["name"] in NEED_MODULES, probe
            assert "this kernel has no" in probe["error"] or "this kernel refuses" in probe["error"], probe
            continue
        [declared] = [form.hooks for form in all_probes()[probe["name"]].forms if form.name == probe["form"]]
        told = {hook["at"] for hook in probe["hooks"]}
        assert {hook.at for hook in declared if not hook.unless} <= told <= {hook.at for hook in declared}
        needed = {hook.at for hook in declared if not hook.optional}
        assert not [hook for hook in probe["hooks"] if hook["missing"] and hook["at"] in needed]


def test_the_doctor_for_people() -> None:
    """The same as a table says which probes run, and names each one's blind spots."""
    done = run(*HOOKLINE, "doctor")
    assert (done.stderr, done.returncode) == ("", 0)
    findings = json.loads(run(*HOOKLINE, "doctor", "--json").stdout)
    running = [verdict["name"] for verdict in findings["probes"] if verdict["runs"]]
    assert set(all_probes()) - set(running) <= NEED_MODULES
    assert f"These probes run: {', '.join(running)}." in done.stdout
    for verdict in findings["probes"]:
        assert (f"{verdict['name']} does not see {verdict['misses']}." in done.stdout) is bool(verdict["misses"])


def test_a_sink_that_cannot_be_opened(tmp_path: Path) -> None:
    """A folder that does not exist is told with the command that makes it; nothing stays behind."""
    done = run(*HOOKLINE, "run", "--output", str(tmp_path / "absent" / "events.ndjson"), "--duration", "5")
    [sentence] = [line for line in done.stderr.splitlines() if line.startswith("hookline: ")]
    assert "mkdir -p -m 0700" in sentence
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_run_ends_well(tmp_path: Path) -> None:
    """run with a duration ends with exit code 0 and a closed ledger, told to people and in a file of 0600."""
    ledger = tmp_path / "ledger.json"
    output = str(tmp_path / "events.ndjson")
    done = run(*HOOKLINE, "run", "--duration", "0.2", "--output", output, "--ledger", str(ledger))
    assert done.returncode == 0, done.stderr
    assert json.loads(ledger.read_text())["closed"] is True
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert done.stderr.splitlines()[-1] == "ledger closed"


def test_a_recording_is_replayed(tmp_path: Path) -> None:
    """What record wrote, replay delivers without privileges, and the ledger closes."""
    recording = tmp_path / "recording"
    done = run(*HOOKLINE, "record", str(recording), "--duration", "0.2")
    assert done.returncode == 0, done.stderr
    ledger = tmp_path / "ledger.json"
    done = run(*NO_CAPABILITIES, *HOOKLINE, "replay", str(recording), "--output", "-", "--ledger", str(ledger))
    assert done.returncode == 0, done.stderr
    assert json.loads(ledger.read_text())["closed"] is True


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    """record refuses a file that exists, in one sentence, and leaves it alone."""
    path = tmp_path / "precious"
    path.write_text("x")
    done = run(*HOOKLINE, "record", str(path), "--duration", "0.1")
    assert done.returncode == 2
    assert f"hookline: {path} exists: remove it or choose another file" in done.stderr.splitlines()
    assert path.read_text() == "x"
