# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that does nothing, for benchmarks: what the kernel's statistics count of it is their own cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from probes.kernel.attach import attach_tracepoint
from probes.kernel.program import RETURN_ZERO, load


@contextmanager
def nothing_at(target: str) -> Iterator[int]:
    """Its descriptor, while it is attached to the tracepoint CATEGORY:NAME of tracefs.

    Raises:
        LoadError: the kernel refuses programs of tracepoints.
        OSError: there is no such tracepoint.
    """
    program = load("tracepoint", "nothing", RETURN_ZERO)
    try:
        link = attach_tracepoint(program, target)
        try:
            yield program
        finally:
            os.close(link)
    finally:
        os.close(program)
