# SPDX-License-Identifier: GPL-2.0-or-later
"""A compiled probe: instructions with their maps by name, and what to do with them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec

from probes.kernel.messages import FormReport, HookReport
from probes.probe import Mechanism

_INSTRUCTION = struct.Struct("<BBhi")
_LOAD_64, _MAP_FD = 0x18, 1
"""The instruction that loads 64 bits, and BPF_PSEUDO_MAP_FD as its source register."""

_CALL, _PSEUDO_KFUNC = 0x85, 2
"""The instruction that calls a helper and, with BPF_PSEUDO_KFUNC_CALL as its source register, a function by BTF id."""

RDONLY_CAST = "bpf_rdonly_cast"
"""The kernel function that lets a program load from any address, Linux 6.2."""

KFUNC = 0x40000000
"""What the C calls it by: the number of no helper."""

TAIL_MAPS: Mapping[Mechanism, str] = {
    "fentry": "hl_fentry_tails",
    "fexit": "hl_fexit_tails",
    "kprobe": "hl_kprobe_tails",
    "kretprobe": "hl_kprobe_tails",
    "raw_tracepoint": "hl_raw_tails",
    "tracepoint": "hl_tails",
    "uprobe": "hl_kprobe_tails",
    "uretprobe": "hl_kprobe_tails",
}
"""The map that programs of a mechanism call others through; the kernel keeps the types apart."""

TAIL_SLOTS = 16
"""Entries of each of these maps."""

SHARED = frozenset(
    {
        "hl_events",
        "hl_counters",
        "hl_lane_counters",
        "hl_settings",
        "hl_excluded_exe",
        "hl_excluded_uid",
        "hl_records",
        "hl_softirq_records",
        "hl_pool",
        "hl_pool_owners",
    }
)
"""Maps of hookline.h that all probes share. Every other map each probe has for itself."""


class Map(msgspec.Struct, frozen=True):
    """How to make a map; sizes in bytes."""

    kind: int
    """BPF_MAP_TYPE_*."""

    key_size: int
    value_size: int
    entries: int
    flags: int


class Program(msgspec.Struct, frozen=True):
    """A program that is called from a hook or, where `slot` is not None, by others of its probe."""

    name: str
    mechanism: Mechanism
    code: bytes
    """Instructions; where a map's descriptor goes there is nothing yet."""

    maps: tuple[tuple[int, str], ...]
    """Byte offsets of instructions that need a map's descriptor, with its name."""

    function: int = 0
    """BTF id of the kernel function that an fentry or fexit program is for."""

    target: str = ""
    """That function's name."""

    slot: int | None = None
    """Index among the programs that are called by others."""

    @property
    def label(self) -> str:
        """Its name, with the function's: such a program is there once for each."""
        return f"{self.name} {self.target}" if self.target else self.name

    def linked(self, maps: Mapping[str, int]) -> bytes:
        """The instructions with the descriptors of these maps."""
        code = bytearray(self.code)
        for at, name in self.maps:
            struct.pack_into("<i", code, at + 4, maps[name])
        return bytes(code)


class Link(msgspec.Struct, frozen=True):
    """A place to attach a program to."""

    program: str
    """Its label."""

    mechanism: Mechanism
    target: str
    """Empty where the collector attaches it, to files that it finds."""

    at: str
    """The hook, for people."""

    sees: str


class Object(msgspec.Struct, frozen=True):
    """A probe as far as this kernel takes it, or why it does not."""

    probe: str
    form: str = ""
    links: tuple[Link, ...] = ()
    programs: tuple[Program, ...] = ()
    """Those that others call come first."""

    maps: dict[str, Map] = {}
    timed: tuple[str, ...] = ()
    missing: tuple[HookReport, ...] = ()
    passed_over: tuple[FormReport, ...] = ()
    error: str = ""
    log: str = ""
    boot: str = ""
    """The boot that it is good for, of one that is not the best form: another may have other modules or settings."""


def relocations(code: bytes, names: Mapping[int, str]) -> tuple[tuple[int, str], ...]:
    """Where `code` has descriptors of maps, by their `names`."""
    found = []
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, _offset, value = _INSTRUCTION.unpack_from(code, at)
        if operation == _LOAD_64 and registers >> 4 == _MAP_FD:
            found.append((at, names[value]))
    return tuple(found)


def with_kfunc(code: bytes, function: int) -> bytes:
    """The instructions, calls of `KFUNC` being of the kernel function of that BTF id."""
    done = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION.size):
        operation, registers, offset, value = _INSTRUCTION.unpack_from(code, at)
        if (operation, registers >> 4, value) == (_CALL, 0, KFUNC):
            _INSTRUCTION.pack_into(done, at, _CALL, _PSEUDO_KFUNC << 4, offset, function)
    return bytes(done)


def boot_id() -> str:
    """The kernel's random id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
