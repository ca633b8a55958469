# SPDX-License-Identifier: GPL-2.0-or-later
"""What is documented of others' handlers: ``budgets.toml``."""

from __future__ import annotations

from pathlib import Path

import msgspec

FILE = Path(__file__).with_name("budgets.toml")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who published figures, and the machine they were taken on."""

    name: str
    cpu: str
    note: str = ""
    is_budget: bool = False
    """Whether `--check` fails over these; the others are references, won or lost."""


class Documented(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One handler's documented figures, µs, and what answers it here."""

    source: str
    handler: str
    mean: float
    ours: tuple[str, ...]
    """PROBE/PROGRAM; several run in one call. None: there is no such handler."""

    actions: tuple[str, ...]
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    n: int | None = None
    note: str = ""


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    sources: dict[str, Source]
    handlers: tuple[Documented, ...]


def load(path: Path = FILE) -> Budgets:
    """The file's content. Raises msgspec.ValidationError and OSError; it is part of the program."""
    return msgspec.toml.decode(path.read_bytes(), type=Budgets)
