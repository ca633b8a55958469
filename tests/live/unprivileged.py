# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs without any privilege, and where it may read and write."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.collector import HOOKLINE, ROOT

_CAPABLE_OF_NOTHING = ("--bounding-set=-all", "--inh-caps=-all", "--")
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *_CAPABLE_OF_NOTHING)
_POWERLESS = ("setpriv", *_CAPABLE_OF_NOTHING)
"""Root without any capability: where the user nobody cannot read this checkout."""


def unprivileged() -> tuple[str, ...]:
    """What to put before a command."""
    command = [*_NOBODY, *HOOKLINE, "--version"]
    readable = subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
    return _NOBODY if readable else _POWERLESS


@contextmanager
def anybodys_folder() -> Iterator[Path]:
    """A folder that the user nobody may use; pytest's own are closed to it."""
    with tempfile.TemporaryDirectory(prefix="hookline-test-") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path
