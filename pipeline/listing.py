# SPDX-License-Identifier: GPL-2.0-or-later
"""``hookline probes``: what there is to see, with every field."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import msgspec

from pipeline.terminal import emit, table
from probes.declared import Field, event_fields
from probes.probe import Probe
from probes.registry import all_probes


def show_probes(*, as_json: bool, verbose: bool) -> None:
    """Print all probes: a table, with `verbose` every field in a sentence, or JSON, which has everything."""
    probes = all_probes().values()
    if as_json:
        listed = {"probes": [_as_json(probe) for probe in probes]}
        emit(msgspec.json.format(msgspec.json.encode(listed), indent=2).decode() + "\n")
    elif verbose:
        emit("\n".join(_described(probe) for probe in probes))
    else:
        rows = [
            (
                probe.name,
                str(probe.event.data_type),
                ", ".join(form.name for form in probe.forms),
                "yes" if probe.default else "no",
                str(sum(1 for _ in _told_fields(probe))),
                _sentence(probe),
            )
            for probe in probes
        ]
        emit(table(("probe", "data_type", "forms", "default", "fields", "what it tells"), rows))
        emit("\nEvery field in a sentence: hookline probes --verbose\n")


def _sentence(probe: Probe) -> str:
    return inspect.cleandoc(probe.event.__doc__ or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")


def _told_fields(probe: Probe) -> Iterator[Field]:
    """Fields that a schema has a name for; the others only serve to make these."""
    return (field for field in event_fields(probe.event) if field.names.smith or field.names.ecs)


def _described(probe: Probe) -> str:
    rows = [
        (field.name, field.names.smith or "-", field.names.ecs or "-", field.names.doc) for field in _told_fields(probe)
    ]
    lines = [f"{probe.name} ({probe.event.data_type}): {_sentence(probe)}"]
    for form in probe.forms:
        lines.append(f"  form {form.name}:")
        lines += [f"    hook: {hook.at}: {hook.sees}" for hook in form.hooks]
        if form.misses:
            lines.append(f"    misses: {form.misses}")
    return "\n".join([*lines, "", table(("field", "smith", "ecs", "meaning"), rows)])


def _as_json(probe: Probe) -> dict[str, object]:
    return {
        "name": probe.name,
        "data_type": probe.event.data_type,
        "tells": _sentence(probe),
        "default": probe.default,
        "forms": [
            {
                "name": form.name,
                "misses": form.misses,
                "hooks": [
                    {"at": hook.at, "mechanism": hook.mechanism, "optional": hook.optional, "sees": hook.sees}
                    for hook in form.hooks
                ],
            }
            for form in probe.forms
        ],
        "fields": [
            {
                "name": field.name,
                "smith": field.names.smith,
                "ecs": field.names.ecs,
                "ecs_type": field.names.ecs_type if field.names.ecs else None,
                "meaning": field.names.doc,
            }
            for field in _told_fields(probe)
        ],
    }
