# SPDX-License-Identifier: GPL-2.0-or-later
"""The maps that tell the kernel side what to leave out."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping

from probes.filters import Filters, MapSettings
from probes.identity import NO_FILE, FileId
from probes.kernel import bpf

_SETTINGS = struct.Struct("<8I")
"""struct hl_settings of hookline.h."""

_EVERYTHING, _BECOME_ROOT = 1, 2
"""HL_EXCLUDE_EVERYTHING and HL_EXCLUDE_BECOME_ROOT of hookline.h."""


def _file_ids(paths: Iterable[str]) -> set[bytes]:
    ids = set()
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue  # not there now: looked up again at the next refresh
        ids.add(FileId.of(status).pack())
    return ids


def _executables(filters: Filters) -> dict[bytes, int]:
    """What is left out of each executable, as bits."""
    wanted: dict[bytes, int] = {}
    for paths, bit in ((filters.exe, _EVERYTHING), (filters.become_root, _BECOME_ROOT)):
        for key in _file_ids(paths):
            wanted[key] = wanted.get(key, 0) | bit
    return wanted


def _replace(fd: int, key_size: int, wanted: Mapping[bytes, int]) -> None:
    present = set(bpf.keys(fd, key_size))
    for key, value in wanted.items():
        bpf.update(fd, key, struct.pack("<I", value))
    for key in present - wanted.keys():
        bpf.delete(fd, key)


MAPS = ("hl_settings", "hl_excluded_exe", "hl_excluded_uid")


def apply(settings: MapSettings, maps: Mapping[str, int]) -> None:
    """Fill the `MAPS` among these descriptors; new entries are in place before the settings tell the programs to look.

    Raises:
        OSError: a list is longer than its map (1,024 entries).
    """
    filters = settings.filters
    executables = _executables(filters)
    _replace(maps["hl_excluded_exe"], len(NO_FILE), executables)
    _replace(maps["hl_excluded_uid"], 4, {struct.pack("<I", uid): _EVERYTHING for uid in filters.uid})
    packed = _SETTINGS.pack(
        settings.own_tgid if filters.own_process else 0,
        settings.wakeup_bytes,
        len(executables),
        len(filters.uid),
        filters.loopback,
        settings.unix_sockets,
        settings.loader_tgid,
        False,
    )
    bpf.update(maps["hl_settings"], struct.pack("<I", 0), packed)


def stop(maps: Mapping[str, int]) -> None:
    """Tell the programs to tell nothing any more."""
    key = struct.pack("<I", 0)
    *settings, _stopped = _SETTINGS.unpack(bpf.lookup(maps["hl_settings"], key, _SETTINGS.size))
    bpf.update(maps["hl_settings"], key, _SETTINGS.pack(*settings, True))
