# SPDX-License-Identifier: GPL-2.0-or-later
"""Every probe of this package, found by its file: adding one edits nothing here."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from probes.event import ProcessEvent
from probes.probe import Probe

_HERE = Path(__file__).parent


@cache
def all_probes() -> dict[str, Probe]:
    """Probes by name, in the order of their kinds' numbers."""
    found = [
        importlib.import_module(".".join(("probes", *path.relative_to(_HERE).with_suffix("").parts))).PROBE
        for path in sorted(_HERE.glob("*/*.py"))
        if path.with_suffix(".c").exists()
    ]
    by_kind: dict[int, Probe] = {}
    for probe in found:
        if probe.event.data_type in by_kind:
            raise TypeError(f"{probe.name} and {by_kind[probe.event.data_type].name} share one data_type")
        by_kind[probe.event.data_type] = probe
    return {by_kind[kind].name: by_kind[kind] for kind in sorted(by_kind)}


def all_events() -> tuple[type[ProcessEvent], ...]:
    """The event classes of all probes, in the order of their numbers."""
    return tuple(probe.event for probe in all_probes().values())


def c_file(probe: Probe) -> Path:
    """The kernel side of `probe`."""
    module = importlib.import_module(probe.event.__module__)
    assert module.__file__ is not None
    return Path(module.__file__).with_suffix(".c")
