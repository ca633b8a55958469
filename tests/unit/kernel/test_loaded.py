# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of the probes while they are on their way into the kernel."""

from __future__ import annotations

import re

import pytest

from probes.errors import LoadError
from probes.kernel.loaded import Loaded
from probes.kernel.messages import Part, ProbeReport

NAMES = ("connect", "exit", "setsid", "prctl", "bpf")
"""Five probes, in the registry's order."""


def loaded(*reports: ProbeReport) -> Loaded:
    """What there is when these reports have come, one by one."""
    found = Loaded(4096, lambda: None)
    for report in reports:
        found.add(Part(report=report), [])
    return found


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_reports_have_the_order_of_the_registry(order: tuple[str, ...]) -> None:
    """Whichever probe is compiled first, what is told of them comes in one order: texts and lists can be compared."""
    found = loaded(*(ProbeReport(name, error=f"no {name}") for name in order))
    assert tuple(found.reports) == NAMES
    reasons = "connect: no connect; exit: no exit; setsid: no setsid; prctl: no prctl; bpf: no bpf"
    with pytest.raises(LoadError, match=re.escape(f"no probe can run here ({reasons})")):
        _ = found.ring_fd


def test_probes_that_come_do_not_disturb_who_goes_through_the_reports() -> None:
    """A report that comes meanwhile is not in what somebody goes through, and raises nothing there."""
    found = loaded(ProbeReport("exit"), ProbeReport("bpf"))
    seen = []
    for name in found.reports:
        seen.append(name)
        found.add(Part(report=ProbeReport("setsid")), [])
    assert seen == ["exit", "bpf"]
    assert list(found.reports) == ["exit", "setsid", "bpf"]


def test_a_loader_that_dies_fails_only_what_has_not_come() -> None:
    """Probes that came before the loader's end keep their reports; the others' say what ended it, with its log."""
    found = loaded(ProbeReport("exit", form="tp_btf"), ProbeReport("bpf", error="no bpf"))
    found.fail(NAMES, LoadError("the loader died", "its log"))
    assert found.reports["exit"] == ProbeReport("exit", form="tp_btf")
    assert found.reports["bpf"].error == "no bpf"
    for name in ("connect", "setsid", "prctl"):
        assert found.reports[name] == ProbeReport(name, error="the loader died", log="its log")
