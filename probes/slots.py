# SPDX-License-Identifier: GPL-2.0-or-later
"""Structs whose fields are assigned often."""

from __future__ import annotations

__all__ = ["plain_assignment"]

try:
    from probes.native import plain_assignment
except ImportError:  # there was no C compiler: assignments are as msgspec has them, which takes longer
    from typing import TypeVar

    _Type = TypeVar("_Type", bound=type)

    def plain_assignment(struct: _Type, /) -> _Type:
        return struct
