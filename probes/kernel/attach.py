# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs to the places that call them. Closing the descriptor that each function gives detaches."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from probes.kernel import bpf
from probes.kernel.features import Host
from probes.probe import Mechanism

_NR_PERF_EVENT_OPEN = 298
"""x86-64."""

_CLOEXEC = 8
"""PERF_FLAG_FD_CLOEXEC."""

_TYPE_TRACEPOINT = 2
"""PERF_TYPE_TRACEPOINT."""

_RAW_TRACEPOINT_OPEN = 17
"""BPF_RAW_TRACEPOINT_OPEN; without a name it attaches a tracing program to the function it was loaded for."""

_ATTR = struct.Struct("<IIQQQQQIIQQ")
"""struct perf_event_attr up to config2 (PERF_ATTR_SIZE_VER1)."""

_SET_BPF, _ENABLE = 0x40042408, 0x2400
"""PERF_EVENT_IOC_SET_BPF and PERF_EVENT_IOC_ENABLE."""

_SOURCES = Path("/sys/bus/event_source/devices")


def attach(program_fd: int, mechanism: Mechanism, target: str) -> int:
    """Attach to a hook's `target`; gives the link. Raises OSError."""
    match mechanism:
        case "raw_tracepoint":
            return _open_raw(program_fd, target)
        case "fentry" | "fexit":
            return _open_raw(program_fd, "")
        case "tracepoint":
            return attach_tracepoint(program_fd, target)
        case "kprobe" | "kretprobe":
            return attach_kprobe(program_fd, target, mechanism == "kretprobe")
        case "uprobe" | "uretprobe":
            path, _, offset = target.rpartition(":")
            return attach_uprobe(program_fd, path, int(offset, 16), mechanism == "uretprobe")


def attach_tracepoint(program_fd: int, target: str) -> int:
    """Attach to the tracepoint CATEGORY:NAME of tracefs. Raises OSError."""
    events = Host.current().events() or Path("/sys/kernel/tracing/events")
    number = int((events / target.replace(":", "/") / "id").read_text(encoding="ascii"))
    return _open(program_fd, _TYPE_TRACEPOINT, number, 0, 0, -1)


def attach_kprobe(program_fd: int, symbol: str, ret: bool) -> int:
    """Attach to a kernel function's entry, or its return. Raises OSError (ENOENT: no such function)."""
    name = ctypes.create_string_buffer(symbol.encode("ascii"))
    return _open(program_fd, *_dynamic("kprobe", ret), ctypes.addressof(name), 0, -1)


def attach_uprobe(program_fd: int, path: str | bytes, offset: int, ret: bool, pid: int = -1) -> int:
    """Attach to the instruction at `offset` bytes of a file, or to the return of the function there.

    `pid` is the one process that is watched, -1: all, also those that start later. The file is looked up now, in
    this process's root, and meant is that very file (its inode), whatever its path holds later.

    Raises:
        OSError: no such file, or the kernel cannot put a breakpoint there (EINVAL, ENOTSUP, EIO).
    """
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _open(program_fd, *_dynamic("uprobe", ret), ctypes.addressof(name), offset, pid)


def _dynamic(source: str, ret: bool) -> tuple[int, int]:
    """The type and config of a perf event of this dynamic source."""
    folder = _SOURCES / source
    kind = int((folder / "type").read_text(encoding="ascii"))
    bit = int((folder / "format/retprobe").read_text(encoding="ascii").strip().removeprefix("config:"))
    return kind, ret << bit


def _open(program_fd: int, kind: int, config: int, config1: int, config2: int, pid: int) -> int:
    attr = ctypes.create_string_buffer(_ATTR.pack(kind, _ATTR.size, config, 1, 0, 0, 0, 1, 0, config1, config2))
    cpu = 0 if pid == -1 else -1  # the program runs on every CPU all the same
    fd = bpf.libc.syscall(_NR_PERF_EVENT_OPEN, attr, pid, cpu, -1, _CLOEXEC)
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "perf_event_open")
    try:
        fcntl.ioctl(fd, _SET_BPF, program_fd)
        fcntl.ioctl(fd, _ENABLE, 0)
    except OSError:
        with suppress(OSError):
            os.close(fd)
        raise
    return int(fd)


def _open_raw(program_fd: int, name: str) -> int:
    text = ctypes.create_string_buffer(name.encode("ascii"))
    return bpf.command(_RAW_TRACEPOINT_OPEN, struct.pack("<QII", ctypes.addressof(text) if name else 0, program_fd, 0))
