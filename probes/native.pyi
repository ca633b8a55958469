# SPDX-License-Identifier: GPL-2.0-or-later
"""The decoder in C; not there where no compiler was found. See `probes.decoder.plans`."""

from collections.abc import Callable
from typing import TypeVar

from probes.event import HostEvent

_Type = TypeVar("_Type", bound=type)

class Decoder:
    """All kinds' decoders, by their plans."""

    def __init__(self, plans: tuple[tuple[object, ...], ...], /) -> None: ...
    def decode(
        self,
        data: bytes,
        records: list[tuple[int, int]],
        last: dict[int, dict[int, int]],
        gap: Callable[[int, int, int, int], HostEvent | None],
        bad: Callable[[int], None],
        /,
    ) -> list[HostEvent]:
        """The events of `records`, (offset, size) in `data`.

        Raises:
            ValueError: an offset is not in `data`, or a size is negative.
        """

def plain_assignment(struct: _Type, /) -> _Type:
    """Let fields of instances be assigned as any slot; for classes with ``gc=False`` that are not frozen.

    Raises:
        TypeError: it is no such class.
    """
