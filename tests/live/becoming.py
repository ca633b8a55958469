# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of other users, set-user-ID ones too, for tests of who becomes root."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.live.tools import LIMIT_S

USER = 54_322
"""Nobody else on this machine has this id."""

AS_USER = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups")


def installed(program: Path, path: Path, mode: int) -> Path:
    """A copy of `program` that belongs to root, with these permissions."""
    shutil.copy(program, path)
    path.chmod(mode)
    return path


def become(*command: bytes | str | Path) -> tuple[int, list[list[int]]]:
    """Run programs/become.c; gives the process id, and its real and effective user id after each step."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        said = process.communicate(timeout=LIMIT_S)[0]
        assert process.returncode == 0
    return process.pid, [[int(number) for number in line.split()[1:]] for line in said.splitlines()]
