# SPDX-License-Identifier: GPL-2.0-or-later
"""The maps that tell the kernel side what to leave out."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from probes.event import NO_FILE, FileId
from probes.filters import MapSettings
from probes.kernel import bpf

_SETTINGS = struct.Struct("<6I")
"""struct hl_settings of hookline.h."""

_PRESENT = struct.pack("<I", 1)


def _file_ids(paths: Iterable[str]) -> set[bytes]:
    ids = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue  # not there now: looked up again at the next refresh
        ids.add(FileId.of(status).pack())
    return ids


def _replace(fd: int, key_size: int, wanted: set[bytes]) -> None:
    present = set(bpf.keys(fd, key_size))
    for key in wanted - present:
        bpf.update(fd, key, _PRESENT)
    for key in present - wanted:
        bpf.delete(fd, key)


def apply(settings: MapSettings, *, settings_fd: int, exe_fd: int, uid_fd: int) -> None:
    """Fill the maps; new entries are in place before the settings tell the programs to look.

    Raises:
        OSError: a list is longer than its map (1,024 entries).
    """
    filters = settings.filters
    exe_ids = _file_ids(filters.exe)
    _replace(exe_fd, len(NO_FILE), exe_ids)
    _replace(uid_fd, 4, {struct.pack("<I", uid) for uid in filters.uid})
    packed = _SETTINGS.pack(
        settings.own_tgid if filters.own_process else 0,
        settings.wakeup_bytes,
        len(exe_ids),
        len(filters.uid),
        filters.loopback,
        settings.unix_sockets,
    )
    bpf.update(settings_fd, struct.pack("<I", 0), packed)
