# SPDX-License-Identifier: GPL-2.0-or-later
"""What a file sink counts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the sink was opened; each field has one writer at a time, so no lock is needed."""

    batches: int = 0
    """Batches acknowledged."""

    lines: int = 0
    """Lines acknowledged."""

    bytes: int = 0
    """Bytes acknowledged."""

    write_errors: int = 0
    """Batches refused because the file could not take them."""

    fsyncs: int = 0
    """Successful fsyncs of the current file."""

    fsync_errors: int = 0
    """Failed fsyncs of lines that had been acknowledged."""

    reopens: int = 0
    """Times that the path was opened anew: on request, or because the file was deleted."""

    rotations: int = 0
    """Files rotated."""

    rotate_errors: int = 0
    """Rotations that failed; the current file just grew on."""

    compressed: int = 0
    """Rotated files compressed."""

    deleted: int = 0
    """Rotated files deleted because of ``keep``."""

    tend_errors: int = 0
    """Rotated files that could not be compressed, synced or deleted; tried again at the next rotation."""
