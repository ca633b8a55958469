# SPDX-License-Identifier: GPL-2.0-or-later
"""``hookline doctor``: what this host and its kernel offer, found out by trying."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from pipeline.encode import steps
from pipeline.enrich import process_tree
from pipeline.failure import UNUSABLE
from pipeline.terminal import emit, table
from probes import decoder
from probes.errors import LoadError, PreflightError
from probes.filters import Filters, MapSettings
from probes.kernel.features import Host, preflight
from probes.kernel.loader import Loading, request
from probes.kernel.messages import FormReport, HookReport, ProbeReport
from probes.kernel.uprobes import News
from probes.probe import Attach, Probe
from probes.registry import all_probes

_RING_BYTES = 64 << 10
"""Nobody reads it: the events of this moment are dropped."""

_MOST_FILES = 128
"""As `uprobe_files` in config.toml."""

_NOT_TRIED = "not tried, see above"

_CHECKS: Mapping[str, tuple[tuple[str, ...], Callable[[Host], object]]] = {
    "privileges": (("uid", "capabilities", "user_namespace"), lambda host: f"user {host.uid}"),
    "process ids": (("pid_namespace",), lambda _host: "the host's own"),
    "machine": (("system", "machine"), lambda host: f"{host.system} on {host.machine}"),
    "kernel types": (("btf",), lambda host: host.btf),
    "bcc": (("bcc",), lambda host: ", ".join(map(str, host.bcc or ()))),
    "tracefs": (("tracefs",), lambda host: host.events()),
    "kernel version": (("release",), lambda host: host.release),
}
"""Each condition of `preflight`, in its order: the fields of `Host` that decide it, and what is there."""


class Check(msgspec.Struct, frozen=True):
    """One condition without which nothing runs."""

    name: str
    ok: bool
    detail: str
    """What is there, or what is not and how to mend it."""


class Verdict(msgspec.Struct, frozen=True):
    """One probe on this kernel."""

    name: str
    data_type: int
    runs: bool
    error: str
    """Why it does not run."""

    log: str
    form: str
    """The form that was taken, of `forms`; empty where none was."""

    forms: tuple[str, ...]
    """Best first."""

    passed_over: tuple[FormReport, ...]
    """Better forms, with the reason why they were not taken."""

    hooks: tuple[HookReport, ...]
    misses: str
    """What even all hooks of this form do not see."""


class Findings(msgspec.Struct, frozen=True):
    """Everything, ready for JSON."""

    ok: bool
    """Whether at least one probe runs."""

    kernel: str
    checks: list[Check]
    probes: list[Verdict]
    files: list[News]
    """What user probes were attached to, or cannot be."""


def examine(host: Host | None = None, attach: Attach = "best", cache: str = "") -> Findings:
    """Check `host`, or else this one; where all is well, load and attach every probe, and let go of them."""
    host = host or Host.current()
    checks = check(host)
    if all(each.ok for each in checks):
        verdicts, files = _try_probes(attach, cache)
    else:
        files = []
        verdicts = [_verdict(probe, ProbeReport(probe.name, error=_NOT_TRIED)) for probe in all_probes().values()]
    ok = any(verdict.runs for verdict in verdicts)
    return Findings(ok, host.release, [*checks, _codec()], verdicts, files)


def check(host: Host) -> list[Check]:
    """Every condition of `preflight`, which by itself ends with the first that does not hold."""
    checks = []
    with tempfile.TemporaryDirectory(prefix="hookline-") as folder:
        sound = _sound_host(Path(folder))
        for name, (fields, there) in _CHECKS.items():
            taken: dict[str, Any] = {field: getattr(host, field) for field in fields}
            problem = _problem(replace(sound, **taken))
            checks.append(Check(name, not problem, problem or str(there(host))))
    if all(each.ok for each in checks) and (problem := _problem(host)):
        checks.append(Check("other", False, problem))
    return checks


def _codec() -> Check:
    """In what the inner loops run; in Python they are good as well, but slower."""
    if decoder.IS_BUILT and process_tree.IS_BUILT and steps.IS_BUILT:
        return Check("codec", True, "in C")
    mend = "apt-get install gcc libc6-dev libpython3-dev, remove .venv, and run make again"
    return Check("codec", True, f"in Python, which is slower, for the one in C was not built: {mend}")


def _problem(host: Host) -> str:
    try:
        preflight(host)
    except PreflightError as error:
        return str(error)
    return ""


def _sound_host(folder: Path) -> Host:
    """A host on which `preflight` finds nothing, so that each condition can be looked at alone."""
    (folder / "events").mkdir()
    for name in ("libbcc.py", "vmlinux"):
        (folder / name).touch()
    return Host(
        system="Linux",
        machine="x86_64",
        release="999.0",
        uid=0,
        capabilities=-1,
        user_namespace=False,
        bcc=(folder,),
        btf=folder / "vmlinux",
        tracefs=(folder,),
    )


def _try_probes(attach: Attach, cache: str) -> tuple[list[Verdict], list[News]]:
    files: list[News] = []
    probes = all_probes()
    settings = MapSettings(Filters(), own_tgid=os.getpid(), wakeup_bytes=_RING_BYTES)
    try:
        wanted = request(probes, ring_bytes=_RING_BYTES, settings=settings, attach=attach, cache=cache, retry=True)
        with Loading(wanted).wait() as loaded:
            reports = loaded.reports
            loaded.uprobes.search((), _MOST_FILES, files.append)
    except LoadError as error:
        reports = {name: ProbeReport(name, error=str(error), log=error.log) for name in probes}
    return [_verdict(probe, reports[name]) for name, probe in probes.items()], files


def _verdict(probe: Probe, report: ProbeReport) -> Verdict:
    form = next((form for form in probe.forms if form.name == report.form), probe.forms[-1])
    return Verdict(
        name=probe.name,
        data_type=probe.event.data_type,
        runs=not report.error,
        error=report.error,
        log=report.log,
        form=report.form,
        forms=tuple(form.name for form in probe.forms),
        passed_over=report.passed_over,
        hooks=report.hooks or tuple(HookReport(hook.at, hook.sees, report.error) for hook in form.hooks),
        misses=form.misses,
    )


def show(findings: Findings, *, as_json: bool, verbose: bool) -> int:
    """Print; gives the exit code. `verbose` adds the compiler's and the verifier's log to the table."""
    if as_json:
        emit(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode() + "\n")
    else:
        emit("\n".join(_parts(findings, verbose=verbose)))
    return 0 if findings.ok else UNUSABLE


def _state(hook: HookReport, files: list[News]) -> str:
    if hook.missing:
        return f"MISSING: {hook.missing}"
    mechanism, kind, *_rest = hook.at.split(":")
    if mechanism not in {"uprobe", "uretprobe"}:
        return "attached"
    found = sum(each.files == kind and not each.reason for each in files)
    return f"attached to {found} file{'s' * (found != 1)}"


def _parts(findings: Findings, *, verbose: bool) -> list[str]:
    checks = [(each.name, "ok" if each.ok else "FAILS", each.detail) for each in findings.checks]
    hooks = []
    notes = []
    for probe in findings.probes:
        for number, hook in enumerate(probe.hooks):
            first = (probe.name, str(probe.data_type), probe.form) if number == 0 else ("", "", "")
            hooks.append((*first, hook.at, hook.sees, _state(hook, findings.files)))
        notes += [f"{probe.name} has no {form.name} form here: {form.reason}.\n" for form in probe.passed_over]
        if probe.misses:
            notes.append(f"{probe.name} does not see {probe.misses}.\n")
        if verbose and probe.log:
            notes.append(f"{probe.name}: {probe.log}\n")
    notes += [
        f"{each.files}: {each.path}" + f" cannot be watched: {each.reason}" * bool(each.reason) + "\n"
        for each in findings.files
    ]
    running = [probe.name for probe in findings.probes if probe.runs]
    verdict = f"These probes run: {', '.join(running)}." if running else "Nothing can run here."
    return [
        f"Linux {findings.kernel}\n",
        table(("check", "state", "detail"), checks),
        table(("probe", "data_type", "form", "hook", "sees", "state"), hooks),
        "".join(notes),
        f"{verdict}\n",
    ]
