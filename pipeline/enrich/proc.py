# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of processes. No file system but that one is asked, so that none can hold up who asks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from probes.identity import FileId

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""/proc tells start times in these."""

Stat = tuple[int, int, bytes]
"""Parent, start in ns since boot (to a tick), and name."""


def lines_of(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a file that the kernel writes. A newline alone ends them: names may hold what else Python splits at.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return os.fsdecode(file.read()).split("\n")


def stat_of(tgid: int) -> Stat | None:
    """None of a process that is gone."""
    try:
        with open(f"/proc/{tgid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name may hold anything, parentheses too; it ends at the last one.
    head, _, rest = text.rpartition(b")")
    fields = rest.split()
    return int(fields[1]), int(fields[19]) * TICK_NS, head.partition(b"(")[2]


def living() -> Mapping[int, Stat]:
    """All processes, with 0 for a parent that changed meanwhile."""
    first = {int(name): stat_of(int(name)) for name in os.listdir("/proc") if name.isdecimal()}
    found: dict[int, Stat] = {}
    for tgid, before in first.items():
        now = stat_of(tgid)
        if before is not None and now is not None and now[1] == before[1]:
            # Between the two looks at all, a process that had the same parent in both was a child of the one that
            # had this pid in both: a parent that ends loses its children.
            found[tgid] = (now[0] if now[0] == before[0] else 0, *now[1:])
    return found


def executable(tgid: int) -> tuple[bytes, FileId] | None:
    """Path and identity of what a process runs; None of one that is gone, or runs nothing.

    The path is spelled as records of executions have it: that of a removed file as it was, a memfd's as its name.
    """
    link = b"/proc/%d/exe" % tgid
    try:
        path, (identity, links) = os.readlink(link), FileId.with_links_at(link)
    except OSError:
        return None
    if not links:
        path = path.removesuffix(b" (deleted)")
        if path.startswith(b"/memfd:"):
            path = path[1:]
    return path, identity
