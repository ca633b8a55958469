# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernels that the tests boot, and where they are kept on this host."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Release:
    """One line of Debian's kernels. The package behind it changes with every update; the suite does not."""

    name: str
    """As people call it, such as 6.1."""

    archive: str
    """Debian's archive: debian or debian-security."""

    suite: str

    library: str = ""
    """The suite with the C library of the kernel's build tools, where that is not this Debian's or an older one."""


RELEASES = (
    Release("5.10", "debian-security", "bullseye-security"),
    Release("6.1", "debian", "bookworm"),
    Release("6.12", "debian", "bookworm-backports"),
    Release("7.x", "debian", "trixie-backports", library="trixie"),
)
"""Oldest first: the oldest that is promised, this Debian's, the long-term one, and the newest that Debian ships."""


def cache() -> Path:
    """Where downloads, unpacked kernels and what was compiled for them stay between runs; outside of the checkout."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "hookline" / "kernels"
