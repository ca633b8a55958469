# SPDX-License-Identifier: GPL-2.0-or-later
"""Open the file that lines are appended to, or say how to make that possible."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat

from sinks.protocol import SinkError

# O_RDWR rather than O_WRONLY: the last byte is read once, and a FIFO cannot keep the opening waiting.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def open_regular(path: str) -> tuple[int, bool]:
    """Open ``path`` for appending, creating it with mode 0600, and lock it against a second collector.

    Returns the descriptor and whether the file is new.

    Raises:
        SinkError: it cannot be opened, is no regular file, or is in use.
    """
    try:
        _refuse_odd(path, _mode(path))
        fd, created = _open(path)
    except OSError as error:
        raise SinkError(_sentence(path, error)) from error
    try:
        _refuse_odd(path, os.fstat(fd).st_mode)
        if created:
            os.fchmod(fd, 0o600)
        lock(fd)
    except BlockingIOError as error:
        os.close(fd)
        raise SinkError(f"{path} is in use by another sink; stop that one or choose another path") from error
    except BaseException:
        os.close(fd)
        raise
    return fd, created


def check_place(path: str) -> None:
    """Look, and open nothing: the folder must be there, and the file regular where it is.

    Raises:
        SinkError: `open_regular` would refuse it for that.
    """
    try:
        _refuse_odd(path, _mode(path))
        os.stat(os.path.dirname(path) or ".")
    except PermissionError:  # another user will open it
        return
    except OSError as error:
        raise SinkError(_sentence(path, error)) from None
    except ValueError as error:
        raise SinkError(f"{path!r} holds a NUL character; choose a path without one") from error


def lock(fd: int) -> None:
    """Claim the file, where its file system knows locks.

    Raises:
        BlockingIOError: another descriptor has claimed it.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # Some network file systems have no locks; two collectors on one file are then the owner's care.
        return


def unlock(fd: int) -> None:
    """Give the claim up at once, even if a duplicate of the descriptor lives on in a running fsync."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError:
        return


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return stat.S_IFREG


def _open(path: str) -> tuple[int, bool]:
    try:
        return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600), True
    except FileExistsError:
        return os.open(path, _FLAGS), False


def _refuse_odd(path: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
    if stat.S_ISLNK(mode):
        remedy = "set path to the file that it points to, or remove the link"
    elif stat.S_ISDIR(mode):
        remedy = f"set path to a file in it, such as {os.path.join(path, 'events.ndjson')}"
    else:
        remedy = "set path to a regular file, or remove what is there"
    raise SinkError(f"{path} is {kind}; {remedy}")


def _sentence(path: str, error: OSError) -> str:
    parent = os.path.dirname(path) or "."
    reason = os.strerror(error.errno or 0)
    if error.errno == errno.ENOENT and not os.path.lexists(parent):
        create = f"mkdir -p -m 0700 {shlex.quote(parent)}"
        return f"{parent} does not exist; create it ({create}) or choose another path"
    if error.errno == errno.ELOOP:
        return f"{path} passes through a symbolic link that changed or loops; remove the link"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"{path}: {reason}; let this user write to it and to {parent}, or choose another path"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{path}: {reason}; free some space or choose another path"
    return f"{path}: {reason}; choose a path that can be written to"
