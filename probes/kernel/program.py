# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs into the kernel: BPF_PROG_LOAD for each mechanism."""

from __future__ import annotations

import ctypes
import os
import struct

from probes.errors import LoadError
from probes.kernel import bpf
from probes.probe import Mechanism

_PROG_LOAD = 5
"""BPF_PROG_LOAD of linux/bpf.h."""

_KPROBE, _TRACEPOINT, _RAW_TRACEPOINT, _TRACING = 2, 5, 17, 26
_TYPES: dict[Mechanism, tuple[int, int]] = {
    "fentry": (_TRACING, 24),
    "fexit": (_TRACING, 25),
    "kprobe": (_KPROBE, 0),
    "kretprobe": (_KPROBE, 0),
    "raw_tracepoint": (_RAW_TRACEPOINT, 0),
    "tracepoint": (_TRACEPOINT, 0),
    "uprobe": (_KPROBE, 0),
    "uretprobe": (_KPROBE, 0),
}
"""BPF_PROG_TYPE_* and BPF_TRACE_FENTRY or BPF_TRACE_FEXIT of linux/bpf.h."""

TRACING = frozenset({"fentry", "fexit"})
"""Mechanisms whose programs are loaded for one function of the kernel."""

_ATTR = struct.Struct("<IIQQIIQII16sIIIIQIIQIII4x")
"""union bpf_attr of BPF_PROG_LOAD up to attach_prog_fd, as Linux 5.10 has it."""

_INSTRUCTION = 8
"""bytes"""

_LOG_SIZE = (1 << 24) - 1
"""bytes; what 5.10 allows"""

RETURN_ZERO = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
"""The smallest program: r0 = 0; exit."""


def load(mechanism: Mechanism, name: str, instructions: bytes, btf_id: int = 0) -> int:
    """Verify a program; gives its descriptor. `btf_id` is the traced function's, of fentry and fexit.

    Raises:
        LoadError: the kernel refuses it; ``log`` has the verifier's words.
    """
    try:
        return _load(mechanism, name, instructions, btf_id, None)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_SIZE)
        try:
            return _load(mechanism, name, instructions, btf_id, log)
        except OSError:
            text = log.value.decode("utf-8", "replace")
            raise LoadError(f"the kernel refused {name}: {os.strerror(error.errno or 0)}", text) from error


def _load(
    mechanism: Mechanism, name: str, instructions: bytes, btf_id: int, log: ctypes.Array[ctypes.c_char] | None
) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(b"GPL")
    kind, expected = _TYPES[mechanism]
    attr = _ATTR.pack(
        kind,
        len(instructions) // _INSTRUCTION,
        ctypes.addressof(code),
        ctypes.addressof(license_text),
        1 if log else 0,
        len(log) if log else 0,
        ctypes.addressof(log) if log else 0,
        0,
        0,
        name[:15].encode("ascii"),
        0,
        expected,
        *(0,) * 7,
        btf_id,
        0,
    )
    return bpf.command(_PROG_LOAD, attr)
