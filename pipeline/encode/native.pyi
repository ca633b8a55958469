# SPDX-License-Identifier: GPL-2.0-or-later
"""The encoders in C; not there where no compiler was found. See `pipeline.encode.steps`."""

from probes.event import HostEvent

class Writer:
    """Writes lines of the events of one class."""

    def __init__(
        self, event: type[HostEvent], sources: tuple[tuple[object, ...], ...], steps: tuple[tuple[object, ...], ...], /
    ) -> None:
        """`sources`: (field or tuple of fields, what has its fragments); `steps`: see `pipeline.encode.steps.Step`.

        Raises:
            TypeError: instances do not hold a field that is named.
            ValueError: these are no sources or steps.
        """

def encode(events: list[HostEvent], writers: dict[type[HostEvent], Writer], /) -> bytes:
    """Their lines, each ended; `writers` has, or makes, that of each class."""
