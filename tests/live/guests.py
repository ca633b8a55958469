# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs in the guests of tests/kernels: tests that are marked `guest`, in each form that their probes have."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from probes.kernel.loader import FIRST
from probes.registry import all_probes

FORMS = ("fentry", "kprobe", "tracepoint")
"""What a guest's collectors are started with as `--attach`, one after the other.

With the first, all probes run, those without that form in their best one. With the others only those run that have
the form and another one too: for the rest nothing would be new.
"""


def proved_by(item: pytest.Function) -> tuple[str, ...]:
    """The probes that a test proves; empty where it proves them together."""
    mark = item.get_closest_marker("guest")
    return mark.args if mark else ()


def has_choice(probe: str, form: str) -> bool:
    """Whether the probe has this form, and another one too."""
    forms = [each.name for each in all_probes()[probe].forms]
    return len(forms) > 1 and form in forms


def forms_of(definition: pytest.Function, asked: Sequence[str]) -> list[str]:
    """Of the forms that are `asked` for, those in which a test proves something new; all where it is not marked."""
    if not definition.get_closest_marker("guest"):
        return [*asked]
    probes = proved_by(definition)
    return [form for form in asked if form == FORMS[0] or any(has_choice(probe, form) for probe in probes)]


Offered = Mapping[str, Mapping[str, Mapping[str, str]]]
"""What a kernel has of each probe, by `--attach`; see tests/kernels/offered.py."""


@cache
def offered() -> Offered:
    """In a guest, what tests/kernels/offered.py said of its kernel: by `--attach` and probe; elsewhere empty."""
    path = os.environ.get("HOOKLINE_OFFERED")
    found: Offered = json.loads(Path(path).read_bytes()) if path else {}
    return found


def probes_for(attach: str | None, offers: Offered | None = None) -> list[str]:
    """What the shared collector loads, on this kernel or on the one of these `offers`."""
    offers = offered() if offers is None else offers
    if attach is None or attach not in offers:
        return ["all"]
    possible = [name for name, found in offers[attach].items() if found["form"]]
    if attach == FORMS[0]:
        return possible
    return [name for name in possible if name in FIRST or has_choice(name, attach)]


def forms_for(attach: str | None) -> dict[str, str]:
    """The forms that these must have been given."""
    if attach is None or attach not in offered():
        return {}
    return {name: offered()[attach][name]["form"] for name in probes_for(attach) if len(all_probes()[name].forms) > 1}
