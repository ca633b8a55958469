# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls bpf(2) in all ways that its test looks at; prints what it did and what the kernel says of it, as JSON.

The first argument is a folder for a file that only looks like a map.
"""

import ctypes
import json
import os
import resource
import struct
import sys
from contextlib import suppress
from pathlib import Path

MAP_CREATE, MAP_UPDATE_ELEM, PROG_LOAD = 0, 2, 5
HASH, SOCKET_FILTER, NO_TYPE = 1, 1, 9999
NAME = b"hostile_name.15"
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    """The result, or the negative errno."""
    given = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(321, command, given, len(attributes))
    return result if result >= 0 else -ctypes.get_errno()


def fdinfo(descriptor: int) -> dict[str, str]:
    """What /proc says of a descriptor."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def status() -> dict[str, str]:
    """Of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def map_create(kind: int, name: bytes) -> bytes:
    return struct.pack("<7I16s", kind, 4, 8, 4, 0, 0, 0, name)


def prog_load(instructions: bytes, name: bytes) -> tuple[bytes, object]:
    """The attributes, and what must live until they are used."""
    kept = ctypes.create_string_buffer(instructions, len(instructions)), ctypes.create_string_buffer(b"GPL")
    code, license_ = (ctypes.addressof(each) for each in kept)
    return struct.pack(
        "<2I2Q2IQ2I16s", SOCKET_FILTER, len(instructions) // 8, code, license_, 0, 0, 0, 0, 0, name
    ), kept


def main() -> None:
    # Before Linux 5.11 a map counts as locked memory; who may not raise the limit runs a later one.
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # r0 = 0; exit -- and an exit without r0, which the verifier refuses.
    good, bad = bytes.fromhex("b7000000000000009500000000000000"), bytes.fromhex("9500000000000000")
    folder = Path(sys.argv[1])
    the_map = bpf(MAP_CREATE, map_create(HASH, NAME))
    attributes, _kept = prog_load(good, b"loaded_prog")
    program = bpf(PROG_LOAD, attributes)
    attributes, _kept_too = prog_load(bad, b"refused_prog")
    refused = bpf(PROG_LOAD, attributes)
    no_map = bpf(MAP_CREATE, map_create(NO_TYPE, b"refused_map"))
    key, value = ctypes.create_string_buffer(b"key!", 4), ctypes.create_string_buffer(b"value!!!", 8)
    element = (ctypes.addressof(key), ctypes.addressof(value), 0)
    updated = bpf(MAP_UPDATE_ELEM, struct.pack("<2I3Q", the_map, 0, *element))
    fake = os.open(folder / "bpf-map", os.O_CREAT | os.O_RDWR)
    faked = bpf(MAP_UPDATE_ELEM, struct.pack("<2I3Q", fake, 0, *element))
    unknown = bpf(4096, bytes(16))
    ids = status()
    said = {
        "ns_pids": ids["NSpid"].split(),
        "egid": ids["Gid"].split()[1],
        "uts": os.stat("/proc/self/ns/uts").st_ino,
        "results": [the_map, program, refused, no_map, updated, faked, unknown],
        "map": fdinfo(the_map),
        "program": fdinfo(program),
    }
    print(json.dumps(said))


main()
