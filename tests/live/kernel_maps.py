# SPDX-License-Identifier: GPL-2.0-or-later
"""BPF maps of this machine by their name, whoever made them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from probes.kernel import bpf

_NR_BPF = 321
_GET_NEXT_ID, _GET_FD_BY_ID, _GET_INFO = 12, 14, 15
"""BPF_MAP_GET_NEXT_ID, BPF_MAP_GET_FD_BY_ID and BPF_OBJ_GET_INFO_BY_FD of linux/bpf.h."""


def _ids() -> Iterator[int]:
    attr = ctypes.create_string_buffer(struct.pack("<III", 0, 0, 0), 12)
    while bpf.libc.syscall(_NR_BPF, _GET_NEXT_ID, attr, len(attr)) == 0:
        number = struct.unpack_from("<I", attr, 4)[0]
        yield number
        struct.pack_into("<I", attr, 0, number)
    assert ctypes.get_errno() == errno.ENOENT


def _name(fd: int) -> str:
    info = ctypes.create_string_buffer(80)
    bpf.command(_GET_INFO, struct.pack("<IIQ", fd, len(info), ctypes.addressof(info)))
    return info.raw[24:40].rstrip(b"\0").decode()


def put(name: str, key: bytes, value: bytes) -> int:
    """Set `key` in every map of that name that has it; gives the number of these."""
    changed = 0
    for number in _ids():
        try:
            fd = bpf.command(_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))
        except OSError:
            continue  # gone meanwhile
        try:
            if _name(fd) == name[:15]:
                bpf.lookup(fd, key, len(value))
                bpf.update(fd, key, value)
                changed += 1
        except OSError as error:
            assert error.errno == errno.ENOENT  # noqa: PT017 - of another collector, which does not know it
        finally:
            os.close(fd)
    return changed
