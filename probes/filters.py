# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel side leaves out, as the configuration says it."""

from __future__ import annotations

import msgspec


class Filters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted as filtered instead of being sent."""

    exe: tuple[str, ...] = ()
    """Executables, by path as this host sees them. The file counts, not its
    name: one that is replaced or rewritten is no longer left out until the
    path is looked up again (every few seconds and at a reload)."""

    become_root: tuple[str, ...] = ()
    """Executables, as those of `exe`, of which alone that they became root (update_cred) is left out."""

    uid: tuple[int, ...] = ()
    """Real user ids."""

    loopback: bool = False
    """Connections to 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/104."""

    own_process: bool = True
    """What the collector itself does."""


class MapSettings(msgspec.Struct, frozen=True):
    """Everything that the maps are filled from."""

    filters: Filters
    own_tgid: int
    wakeup_bytes: int
    """Pending bytes at which the kernel wakes the reader."""

    unix_sockets: bool = False
    """Whether AF_UNIX connections are told."""

    loader_tgid: int = 0
    """The process that loads the probes, as long as it does; 0: none."""
