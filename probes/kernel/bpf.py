# SPDX-License-Identifier: GPL-2.0-or-later
"""bpf(2) on map descriptors, as far as a running collector needs it."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NR_BPF, _NR_MEMBARRIER = 321, 324
"""x86-64."""

_MEMBARRIER_GLOBAL = 1
"""MEMBARRIER_CMD_GLOBAL of linux/membarrier.h."""

_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
"""BPF_MAP_LOOKUP_ELEM and its neighbours in linux/bpf.h."""

RINGBUF = 27
"""BPF_MAP_TYPE_RINGBUF."""

_MAP_CREATE = 0
"""BPF_MAP_CREATE."""

_LOOKUP_BATCH = 24
"""BPF_MAP_LOOKUP_BATCH."""

_INFO_BY_FD = 15
"""BPF_OBJ_GET_INFO_BY_FD."""

_PROG_INFO_SIZE, _RUN_TIME_AT = 224, 192
"""Of struct bpf_prog_info, bytes: up to recursion_misses and what follows; an older kernel fills what it knows."""

_ENABLE_STATS, _STATS_RUN_TIME = 32, 0
"""BPF_ENABLE_STATS, BPF_STATS_RUN_TIME; the kernel stops as the last such descriptor is closed."""

_MAP_INFO_SIZE = 80
"""Of struct bpf_map_info as of Linux 5.10, bytes."""

libc = ctypes.CDLL(None, use_errno=True)


def command(number: int, attr: bytes) -> int:
    """bpf(2) with a ``union bpf_attr`` of just these bytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(attr, len(attr))
    result = libc.syscall(_NR_BPF, number, buffer, len(attr))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "bpf")
    return int(result)


def _call(
    number: int, fd: int, key: ctypes.Array[ctypes.c_char] | None, value: ctypes.Array[ctypes.c_char] | None
) -> None:
    at = [ctypes.addressof(each) if each is not None else 0 for each in (key, value)]
    command(number, struct.pack("<IIQQQ", fd, 0, *at, 0))


def create_map(kind: int, key_size: int, value_size: int, entries: int, flags: int = 0, name: str = "") -> int:
    """A new map of BPF_MAP_TYPE_* `kind`; sizes in bytes. Gives its descriptor. Raises OSError."""
    label = name[:15].encode("ascii")
    return command(_MAP_CREATE, struct.pack("<7I16s", kind, key_size, value_size, entries, flags, 0, 0, label))


def possible_cpus() -> int:
    """CPUs that this kernel may ever run on; per-CPU maps hold as many values."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(text.strip().replace("-", ",").split(",")[-1]) + 1


def map_info(fd: int) -> tuple[int, int, int, int, int]:
    """BPF_MAP_TYPE_*, key and value size in bytes, entries, flags. Raises OSError."""
    info = ctypes.create_string_buffer(_MAP_INFO_SIZE)
    command(_INFO_BY_FD, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
    kind, _id, key_size, value_size, entries, flags = struct.unpack_from("<6I", info)
    return kind, key_size, value_size, entries, flags


@dataclass(frozen=True, slots=True)
class ProgramStatistics:
    """What the kernel counted of a program."""

    run_time_ns: int
    """Time in it and in the programs that it called, while statistics were on."""

    run_count: int
    """Runs while statistics were on; of a program that others call, none."""

    skipped: int
    """Times that it was not run because it was running on that CPU already; 0 before Linux 5.12."""


def program_statistics(program_fd: int) -> ProgramStatistics:
    """The kernel's counts of a program. Raises OSError."""
    info = ctypes.create_string_buffer(_PROG_INFO_SIZE)
    command(_INFO_BY_FD, struct.pack("<IIQ", program_fd, len(info), ctypes.addressof(info)))
    return ProgramStatistics(*struct.unpack_from("<3Q", info, _RUN_TIME_AT))


@contextmanager
def run_statistics() -> Iterator[None]:
    """The kernel counts time and runs of all programs while this context lasts, and as long as anybody else asks.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN.
    """
    fd = command(_ENABLE_STATS, struct.pack("<I", _STATS_RUN_TIME))
    try:
        yield
    finally:
        os.close(fd)


def await_programs() -> None:
    """Until no program that was detached before still runs on any CPU; blocks for a few ms.

    MEMBARRIER_CMD_GLOBAL is ``synchronize_rcu()``, and tracepoint programs run where RCU cannot pass.
    """
    libc.syscall(_NR_MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0)


def lookup(fd: int, key: bytes, size: int) -> bytes:
    """The `size` bytes at `key`; of a per-CPU map, every CPU's value in turn.

    Raises:
        OSError: ENOENT where the key is absent.
    """
    value = ctypes.create_string_buffer(size)
    _call(_LOOKUP, fd, ctypes.create_string_buffer(key, len(key)), value)
    return value.raw


def lookup_array(fd: int, entries: int, size: int) -> bytes:
    """All values, in turn, of an array map (of one value a key) with so many entries of `size` bytes, a multiple of 8.

    One call (Linux 5.6). Raises OSError.
    """
    position = ctypes.create_string_buffer(4)
    keys, values = ctypes.create_string_buffer(4 * entries), ctypes.create_string_buffer(size * entries)
    at = map(ctypes.addressof, (position, keys, values))
    command(_LOOKUP_BATCH, struct.pack("<QQQQIIQQ", 0, *at, entries, fd, 0, 0))
    return values.raw


def update(fd: int, key: bytes, value: bytes) -> None:
    """Set `key`. Raises OSError (E2BIG: the map is full)."""
    _call(
        _UPDATE,
        fd,
        ctypes.create_string_buffer(key, len(key)),
        ctypes.create_string_buffer(value, len(value)),
    )


def delete(fd: int, key: bytes) -> None:
    """Remove `key`. Raises OSError (ENOENT where it is absent)."""
    _call(_DELETE, fd, ctypes.create_string_buffer(key, len(key)), None)


def keys(fd: int, size: int) -> Iterator[bytes]:
    """All keys of a map that nobody changes meanwhile; `size` is a key's, in bytes."""
    previous: ctypes.Array[ctypes.c_char] | None = None
    while True:
        following = ctypes.create_string_buffer(size)
        try:
            _call(_NEXT_KEY, fd, previous, following)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield following.raw
        previous = following
