# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that Python has no function for, made from this process."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

RENAMEAT2, PTRACE, KILL, TKILL, TGKILL = 316, 101, 62, 200, 234
RT_SIGQUEUEINFO, RT_TGSIGQUEUEINFO, PIDFD_SEND_SIGNAL = 129, 297, 424
LINKAT, MOUNT, UMOUNT2, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 265, 165, 166, 429, 430, 431, 432
FINIT_MODULE, DELETE_MODULE = 313, 176
MPROTECT, PKEY_MPROTECT, PRCTL, SETSID, CHROOT = 10, 329, 157, 112, 161


def call(number: int, *arguments: int | bytes | None, fails: int = 0) -> int:
    """The result of a system call, which must fail with the errno `fails` if that is given; x86-64 numbers."""
    words = (ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments)
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    code = ctypes.get_errno() if result < 0 else 0
    assert code == fails, f"system call {number}: {os.strerror(code)}"
    return -code if code else result


PR_SET_PDEATHSIG = 1


def fork(act: Callable[[], object]) -> int:
    """A child process that does `act` and ends, with 0 if that went well; it dies with this one."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        call(PRCTL, PR_SET_PDEATHSIG, signal.SIGKILL)
        act()
        code = 0
    finally:
        os._exit(code)
