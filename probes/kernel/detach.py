# SPDX-License-Identifier: GPL-2.0-or-later
"""Letting go of attachments without waiting for the kernel."""

from __future__ import annotations

import os


def leave_to_another(links: list[int]) -> None:
    """Close descriptors that a process of its own has too, and ends with.

    The last close of a uprobe or a perf event takes the kernel up to 0.1 s, one after the other: too long to wait for.
    """
    if not links:
        return
    for link in links:
        os.set_inheritable(link, True)
    theirs, ours = os.pipe()
    try:
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_DUP2, theirs, 0)]
        actions += [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)]
        os.posix_spawn("/bin/cat", ["cat"], {}, file_actions=actions)  # waits for the end of the pipe
    except OSError:
        pass  # then it takes its time
    finally:
        for fd in (*links, theirs, ours):
            os.close(fd)
