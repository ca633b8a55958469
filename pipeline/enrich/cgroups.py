# SPDX-License-Identifier: GPL-2.0-or-later
"""From the id of a cgroup to its path, and to what that path says of containers.

The kernel finds a cgroup by its id (open_by_handle_at(2); the id of a directory
of cgroupfs is its file handle), so neither a process that is gone nor a pid
that was reused leads to a wrong one.

Whoever owns a directory of cgroupfs can make more in it, of any name. So a name
counts as far as all directories above it belong to root, or to root and then
to one user.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipeline.enrich.proc import lines_of
from probes.event import CGROUP_V1

_libc = ctypes.CDLL(None, use_errno=True)

_NR_OPEN_BY_HANDLE_AT = 304
"""x86-64."""

_FILEID_KERNFS = 0xFE
"""linux/exportfs.h, since Linux 5.5."""

_MOUNTS = Path("/proc/self/mountinfo")

_CONTAINER = re.compile(r"(?:.*[:-])?([0-9a-f]{64})(?:\.scope)?")
"""ID, PREFIX-ID.scope (systemd's driver), PREFIX-ID (podman's and cri-o's cgroupfs driver), SLICE:PREFIX:ID."""

_MONITOR = "conmon"
"""In the name of the cgroup of what watches a container from outside."""


class Candidate(NamedTuple):
    """A container, as the name of a cgroup has it."""

    id: str
    owner: int
    """The user id that could make a cgroup of that name: 0, or the user to whom that part of the tree belongs."""


class Hierarchies:
    """The mounted cgroup file systems: version 2, and that of the pids controller of version 1."""

    def __init__(self, mounts: Path = _MOUNTS) -> None:
        self._mounts = mounts

    def candidates(self, cgroup: int, tgid: int) -> list[Candidate] | None:
        """The containers that a cgroup may be of, outermost first; None where the cgroup is gone. Blocks.

        `cgroup` is the id that a record holds, `tgid` a process in it, for where CAP_DAC_READ_SEARCH is missing.
        """
        v1, wanted = bool(cgroup & CGROUP_V1), cgroup & ~CGROUP_V1
        try:
            mount = self._mounted(v1=v1)
            if mount is None:
                return None
            path = _by_handle(mount, wanted) or _by_process(mount, wanted, tgid, v1=v1)
            # A namespace of cgroups shows less than the handles lead to.
            return candidates(mount, path) if path is not None and path.is_relative_to(mount) else None
        except OSError:
            return None

    def _mounted(self, *, v1: bool) -> Path | None:
        for line in filter(None, lines_of(self._mounts)):
            before, _, after = line.partition(" - ")
            kind, _source, options = after.split(" ")[:3]
            _id, _parent, _device, root, place = before.split(" ")[:5]
            if root == "/" and (kind == "cgroup" and "pids" in options.split(",") if v1 else kind == "cgroup2"):
                return Path(place)
        return None


def _by_handle(mount: Path, cgroup: int) -> Path | None:
    handle = ctypes.create_string_buffer(struct.pack("<IiQ", 8, _FILEID_KERNFS, cgroup))
    at = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = _libc.syscall(_NR_OPEN_BY_HANDLE_AT, at, handle, flags)
        if fd < 0:
            return None
        try:
            return Path(os.readlink(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)
    finally:
        os.close(at)


def _by_process(mount: Path, cgroup: int, tgid: int, *, v1: bool) -> Path | None:
    """What the process says, if that has the wanted id."""
    for line in filter(None, lines_of(f"/proc/{tgid}/cgroup")):
        _number, controllers, path = line.split(":", 2)
        if ("pids" in controllers.split(",") if v1 else not controllers) and ".." not in path.split("/"):
            found = mount / path.lstrip("/")
            return found if found.stat().st_ino == cgroup else None
    return None


def candidates(mount: Path, path: Path, stat_of: Callable[[Path], os.stat_result] = Path.stat) -> list[Candidate]:
    """The containers that names in `path`, below `mount`, tell of and that count. Raises OSError."""
    found: list[Candidate] = []
    owner, parent = 0, mount
    for name in path.relative_to(mount).parts:
        status = stat_of(parent)
        others = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid)
        if others or owner not in (0, status.st_uid):
            break
        owner, parent = status.st_uid, parent / name
        match = _CONTAINER.fullmatch(name)
        if match is not None and _MONITOR not in name:
            found.append(Candidate(match[1], owner))
    return found
