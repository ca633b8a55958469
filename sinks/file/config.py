# SPDX-License-Identifier: GPL-2.0-or-later
"""What the table of a file sink may hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sinks.protocol import SinkConfig

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Interval = Annotated[float, msgspec.Meta(ge=0.01)]
Path = Annotated[str, msgspec.Meta(min_length=1)]


class FileConfig(SinkConfig, frozen=True, kw_only=True, tag="file"):
    """A table with ``type = "file"``."""

    path: Path
    """The file to append to; created with mode 0600 in a directory that must exist."""

    rotate_bytes: Count = 256 * 1024 * 1024
    """Bytes that the file may reach before it is rotated (one larger batch may exceed it); 0: never."""

    rotate_age_s: Seconds = 86_400.0
    """Seconds that one file may span, counted from the epoch (86400: midnight UTC); 0: never."""

    keep: Count = 7
    """Rotated files that are kept, the older ones being deleted; 0: all."""

    compress: bool = True
    """Whether rotated files become zstd (``.zst``)."""

    fsync: Literal["never", "interval", "always"] = "interval"
    """When lines are forced to the disk; ``always``: before a batch is acknowledged."""

    fsync_interval_s: Interval = 1.0
    """Seconds between two fsyncs with ``fsync = "interval"``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.rotate_age_s < 1:
            raise ValueError("rotate_age_s must be 0 or at least 1")
