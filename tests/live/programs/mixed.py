# SPDX-License-Identifier: GPL-2.0-or-later
"""Does one of everything that the probes tell, as many times over as the second argument says, in the folder FOLDER.

The third argument is a program that does nothing. Prints what was done as JSON: a list of [data_type, pid, times].
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections import Counter
from contextlib import suppress

from tests.live.calls import MOUNT, MPROTECT, PRCTL, PTRACE, TKILL, call

PR_SET_NAME, PTRACE_ATTACH, MS_NONE, EPERM, ENODEV, BPF, MAP_CREATE = 15, 16, 0, 1, 19, 321, 0
READ, WRITE, EXEC = 1, 2, 4
NOBODY = 65534
ANSWER = struct.pack("!6H", 1, 0x8180, 1, 0, 0, 0) + b"\5mixed\0" + struct.pack("!HH", 1, 1)
ARRAY = struct.pack("<5I", 2, 4, 8, 1, 0)
"""The attributes of a BPF_MAP_TYPE_ARRAY of one element."""

done: Counter[tuple[int, int]] = Counter()
here = os.getpid()


def tell(*kinds: int, pid: int = here) -> None:
    done.update((kind, pid) for kind in kinds)


def files(number: int) -> None:
    os.close(os.open(f"a{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.rename(f"a{number}", f"b{number}")
    os.link(f"b{number}", f"c{number}")
    os.unlink(f"b{number}")
    os.unlink(f"c{number}")
    os.mkdir(f"d{number}")
    os.rmdir(f"d{number}")
    os.close(os.memfd_create(f"e{number}"))
    call(MOUNT, b"none", b".", b"no such type", MS_NONE, None, fails=ENODEV)
    tell(602, 82, 86, 605, 605, 606, 356, 165)


def itself(memory: int) -> None:
    call(PRCTL, PR_SET_NAME, b"mixed")
    call(MPROTECT, memory, mmap.PAGESIZE, READ | EXEC)
    call(MPROTECT, memory, mmap.PAGESIZE, READ | WRITE)
    os.kill(here, signal.SIGURG)
    call(TKILL, here, signal.SIGURG)
    call(PTRACE, PTRACE_ATTACH, here, 0, 0, fails=EPERM)
    os.close(call(BPF, MAP_CREATE, ARRAY, len(ARRAY)))
    tell(157, 10, 62, 200, 101, 806)


def network(listener: socket.socket, server: socket.socket, client: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
    server.sendto(ANSWER, client.getsockname())
    assert client.recv(512) == ANSWER
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
    tell(803, 42, 43, 802, 802, 601, 49)  # create_connection looks its address up


def child(program: str) -> None:
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            os.setresuid(NOBODY, NOBODY, 0)
            os.setresuid(0, 0, 0)
            os.execv(program, [program])  # noqa: S606 - the tests' own
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    tell(801)
    tell(112, 604, 59, 60, pid=pid)


def main() -> None:
    # Before Linux 5.11 a map counts as locked memory; who may not raise the limit runs a later one.
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    folder, times, program = sys.argv[1:]
    os.chdir(folder)
    tell(59, 60)
    pages = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    name_server = f"127.54.{here >> 8 & 255}.{here & 255}"
    with (
        socket.socket() as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server.bind((name_server, 53))
        client.connect((name_server, 53))
        tell(49, 49, 42)
        for number in range(int(times)):
            files(number)
            itself(memory)
            network(listener, server, client)
            child(program)
    print(json.dumps([[kind, pid, count] for (kind, pid), count in done.items()]))


if __name__ == "__main__":
    main()
