# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding and opening the files that user probes attach to, in every root that a process of this host has.

What lies in a container belongs to whoever controls it. So a path is resolved inside its root, as if that were "/";
nothing but a regular file is opened, so that a FIFO cannot block nor a device act; and all that is listed or read has
a bound. What still can block is a file system that does not answer. So this runs in a process that can be killed
(`probes.kernel.finder`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from probes.identity import FileId
from probes.kernel import bpf
from probes.opening import IN_ROOT, NO_MAGICLINKS, open_in_root, readable

_MAPS_BYTES = 16 << 20
"""Of a process's maps; a whole one with 65,530 mappings, the kernel's own limit, has less."""

_MOST_ENTRIES = 1024
"""Names of one directory that are looked at for a ``*`` in a place."""

_STATFS = struct.Struct("<15q")
_OVERLAY = 0x794C7630
"""OVERLAYFS_SUPER_MAGIC."""


class Place(NamedTuple):
    """A file that may be one to attach to: where it was found, and how to open it."""

    pid: int
    path: bytes
    """In the root of `pid`."""

    range: str
    """Of /proc/PID/map_files; "": it is not known to be mapped."""

    identity: tuple[object, ...]
    """Two places with the same one are the same file."""


def pids() -> list[int]:
    """All processes, the oldest numbers first."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def mapped(pid: int, pattern: re.Pattern[bytes]) -> list[Place]:
    """The files that a process maps whose base names `pattern` matches; see `mapped_pattern`."""
    found: dict[tuple[object, ...], Place] = {}
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            maps = file.read(_MAPS_BYTES)
    except OSError:
        return []
    for match in pattern.finditer(maps):
        path = match["path"].removesuffix(b" (deleted)")
        identity = (match["file"], path)
        if identity not in found:
            # maps pads its addresses with zeros, the names in map_files are without
            start, end = (int(each, 16) for each in match["range"].split(b"-"))
            found[identity] = Place(pid, path, f"{start:x}-{end:x}", identity)
    return list(found.values())


def mapped_pattern(names: str) -> re.Pattern[bytes]:
    """What `mapped` takes, for base names that match `names`."""
    return re.compile(
        rb"^(?P<range>[0-9a-f]+-[0-9a-f]+) \S+ \S+ (?P<file>[0-9a-f:]+ \d+) +"
        rb"(?P<path>/[^\n]*/(?:%s)(?: \(deleted\))?)$" % names.encode("ascii"),
        re.MULTILINE,
    )


def namespace_of(pid: int) -> int | None:
    """The mount namespace of a process; None of one that is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino
    except OSError:
        return None


def root_of(pid: int) -> tuple[int, int] | None:
    """Device and inode of the root directory that a process has; None of one that is gone."""
    try:
        root = os.stat(f"/proc/{pid}/root/")
    except OSError:
        return None
    return root.st_dev, root.st_ino


def placed(pid: int, root: tuple[int, ...], place: str) -> Iterator[Place]:
    """Where a place of `probes.probe.Files` may be in the root of a process."""
    if place.startswith("../"):
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return
        place = os.path.normpath(os.path.join(os.path.dirname(program), place)).lstrip("/")
    try:
        directory = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for path in _expand(directory, "", place.split("/")):
            yield Place(pid, os.fsencode(f"/{path}"), "", (*root, path))
    finally:
        os.close(directory)


def _expand(root: int, before: str, parts: list[str]) -> Iterator[str]:
    for number, part in enumerate(parts):
        if "*" in part:
            for name in _names(root, before or "."):
                if fnmatch.fnmatchcase(name, part):
                    yield from _expand(root, os.path.join(before, name), parts[number + 1 :])
            return
        before = os.path.join(before, part)
    yield before


def _names(root: int, path: str) -> list[str]:
    try:
        fd = _open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        with os.scandir(fd) as entries:
            return sorted(entry.name for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False))
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened(place: Place) -> Iterator[tuple[int, os.stat_result]]:
    """A readable descriptor of the file at `place`, and what fstat(2) says.

    Raises:
        OSError: it is not there, or is no regular file.
    """
    fd, status = readable(_open_path(place))
    try:
        yield fd, status
    finally:
        os.close(fd)


def _open_path(place: Place) -> int:
    if place.range:
        return os.open(f"/proc/{place.pid}/map_files/{place.range}", os.O_PATH | os.O_CLOEXEC)
    root = os.open(f"/proc/{place.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open_in_root(root, os.fsdecode(place.path[1:]), os.O_PATH)
    finally:
        os.close(root)


def _open_in_root(root: int, path: str, flags: int) -> int:
    return open_in_root(root, os.fsencode(path), flags, NO_MAGICLINKS | IN_ROOT)


def key_of(fd: int, status: os.stat_result) -> FileId:
    """Which file, and which content of it, a descriptor is of.

    The overlays of two containers of one image show one file of the image as two devices; the kernel attaches to the
    file below, once. So the device does not count there.
    """
    buffer = ctypes.create_string_buffer(_STATFS.size)
    bpf.libc.fstatfs(fd, buffer)
    key = FileId.of(status)
    if _STATFS.unpack(buffer.raw)[0] == _OVERLAY:
        key = key._replace(device=0)
    return key
