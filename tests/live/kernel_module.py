# SPDX-License-Identifier: GPL-2.0-or-later
"""tests/kernels/module/hookline_test.c in the running kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.calls import DELETE_MODULE, FINIT_MODULE, call

NAME = b"hookline_test"


def built() -> Path:
    """The module's file; only where `needs("test_module")` is met."""
    return Path(os.environ["HOOKLINE_TEST_MODULE"])


@contextmanager
def inserted() -> Iterator[None]:
    """As long as the context lasts, `become` has the steps "commit" and "overwrite"."""
    with built().open("rb") as file:
        call(FINIT_MODULE, file.fileno(), b"", 0)
    try:
        yield
    finally:
        call(DELETE_MODULE, NAME, os.O_NONBLOCK)
