# SPDX-License-Identifier: GPL-2.0-or-later
"""bpf(2) on map descriptors, as far as a running collector needs it."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

_NR_BPF, _NR_MEMBARRIER = 321, 324
"""x86-64."""

_MEMBARRIER_GLOBAL = 1
"""MEMBARRIER_CMD_GLOBAL of linux/membarrier.h."""

_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
"""BPF_MAP_LOOKUP_ELEM and its neighbours in linux/bpf.h."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Attr(ctypes.Structure):
    """union bpf_attr, the member of the map element commands."""

    _fields_ = (
        ("map_fd", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("key", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )


def _call(
    command: int, fd: int, key: ctypes.Array[ctypes.c_char] | None, value: ctypes.Array[ctypes.c_char] | None
) -> None:
    attr = _Attr(map_fd=fd)
    attr.key = ctypes.addressof(key) if key is not None else 0
    attr.value = ctypes.addressof(value) if value is not None else 0
    if _libc.syscall(_NR_BPF, command, ctypes.byref(attr), ctypes.sizeof(attr)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "bpf")


def await_programs() -> None:
    """Until no program that was detached before still runs on any CPU; blocks for a few ms.

    MEMBARRIER_CMD_GLOBAL is ``synchronize_rcu()``, and tracepoint programs run where RCU cannot pass.
    """
    _libc.syscall(_NR_MEMBARRIER, _MEMBARRIER_GLOBAL, 0, 0)


def lookup(fd: int, key: bytes, size: int) -> bytes:
    """The `size` bytes at `key`; of a per-CPU map, every CPU's value in turn.

    Raises:
        OSError: ENOENT where the key is absent.
    """
    value = ctypes.create_string_buffer(size)
    _call(_LOOKUP, fd, ctypes.create_string_buffer(key, len(key)), value)
    return value.raw


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
