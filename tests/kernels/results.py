# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guests proved: results.json, and the README's table, which is made from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from probes.probe import Probe
from probes.registry import all_probes
from tests.kernels.matrix import ROOT, Run
from tests.kernels.releases import RELEASES
from tests.live.guests import FORMS, has_choice

RESULTS = Path(__file__).parent / "results.json"
README = ROOT / "README.md"

_BEGIN = '<!-- kernels: made by make test-kernels ARGS="--record" -->\n'
_END = "<!-- kernels: end -->\n"

Results = Mapping[str, Mapping[str, Any]]
"""By Debian's line of kernels: "version" (``uname -r``), "probes" (see `_cell`), "together"."""


def record(runs: Iterable[Run]) -> None:
    """Put these runs into results.json, and its table into the README; other kernels' results stay."""
    known = json.loads(RESULTS.read_bytes()) if RESULTS.exists() else {}
    known |= {run.kernel.release.name: _result(run) for run in runs}
    results = {name: known[name] for name in sorted(known, key=_order)}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    README.write_text(with_table(README.read_text(), results))


def lost(run: Run, form: str) -> list[str]:
    """The probes that are on record as passed with this form, and are not offered with it any more."""
    known = json.loads(RESULTS.read_text()).get(run.kernel.release.name, {"probes": {}})["probes"]
    return [
        name
        for name, cells in known.items()
        if cells.get(form, {}).get("outcome") == "passed"
        and has_choice(name, form)
        and run.offers.get(form, {}).get(name, {}).get("form") != form
    ]


def _order(name: str) -> list[int]:
    return [int(number) if number.isdigit() else 0 for number in name.split(".")]


def _result(run: Run) -> dict[str, Any]:
    probes = {name: _cells(run, probe) for name, probe in all_probes().items()}
    together = [run.outcomes.get(each.test, "no result") for each in run.tests if not each.probes]
    return {
        "version": run.kernel.version,
        "ended": run.ended.failure or "in peace",
        "together": "passed" if together and {*together} == {"passed"} else "failed",
        "probes": probes,
    }


def _cells(run: Run, probe: Probe) -> dict[str, dict[str, str]]:
    """By form: "passed" or "failed", or "not here" with the reason; and what is missed, if that is something."""
    cells: dict[str, dict[str, str]] = {}
    for form in probe.forms:
        attach = form.name if form.name in FORMS and has_choice(probe.name, form.name) else FORMS[0]
        offer = run.offers[attach][probe.name]
        if offer["form"] != form.name:
            cells[form.name] = {"outcome": "not here", "reason": offer["reason"]}
            continue
        tests = [each.test for each in run.tests if each.form == attach and probe.name in each.probes]
        passed = bool(tests) and all(run.outcomes.get(test) == "passed" for test in tests)
        ran = any(test in run.outcomes for test in tests)
        cells[form.name] = {"outcome": "passed" if passed else "failed" if ran else "not run"}
        if offer["misses"]:
            cells[form.name]["reason"] = offer["misses"]
    return cells


def table(results: Results) -> str:
    """The results in Markdown: probes with the same results share a row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    notes: dict[str, list[str]] = {}
    for name in all_probes():
        cells = [result["probes"].get(name, {}) for result in results.values()]
        rows.setdefault(tuple(_text(each) for each in cells), []).append(name)
        for release, forms in zip(results, cells, strict=True):
            for note in dict.fromkeys(_notes(name, forms)):
                notes.setdefault(note, []).append(release)
    for release, result in results.items():
        if result["ended"] != "in peace":
            notes.setdefault(f"the guest did not end in peace: {result['ended']}", []).append(release)
    if missing := [release.name for release in RELEASES if release.name not in results]:
        notes["no run is on record"] = missing
    lines = [
        f"| probe | {' | '.join(result['version'] for result in results.values())} |",
        f"|---{'|---' * len(results)}|",
        *(f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in rows.items()),
        f"| all at once, with a closed ledger | {' | '.join(each['together'] for each in results.values())} |",
        "",
        *(f"- {', '.join(releases)}: {note}" for note, releases in notes.items()),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _notes(name: str, forms: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """What a kernel has not of a probe, and why."""
    for form, cell in forms.items():
        if cell["outcome"] != "not here":
            if "reason" in cell:
                yield f"`{name}` misses {cell['reason']}"
        elif len(forms) > 1:
            yield f"`{name}` has no form for {form}: {cell['reason']}"
        else:
            yield f"`{name}` is not there: {cell['reason']}"


def _text(forms: Mapping[str, Mapping[str, str]]) -> str:
    """One cell: the forms that passed, and what did not."""
    marks = {"passed": "", "failed": " **fails**", "not run": " (not run)"}
    words = [f"{form}{marks[cell['outcome']]}" for form, cell in forms.items() if cell["outcome"] in marks]
    return ", ".join(words) or "—"


def with_table(text: str, results: Results) -> str:
    """The README's text with the table of these results."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    assert after, "README.md has no place for the table of kernels"
    return f"{before}{_BEGIN}{table(results)}{_END}{after}"
