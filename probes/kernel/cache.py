# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiled probes on disk, so that a start needs neither a compiler nor the kernel's types.

One file a probe and key. The key is a digest of everything that goes into the programs: the kernel's BTF and build,
bcc, Hookline's own sources, the form that is asked for. Another kernel or a changed probe has another key. What is
not ours (owner, mode), is damaged, or cannot be read is not there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

import msgspec

from probes.kernel.messages import Request
from probes.kernel.object import Object

_KEPT = 8
"""Files of one probe: other kernels to boot, other versions to go back to."""

_DIGEST = 32
"""bytes"""

_PROBES = Path(__file__).parents[1]
_KERNEL = (Path("/sys/kernel/btf/vmlinux"), Path("/sys/kernel/notes"), Path("/proc/version"))
_MODULES = re.compile(rb"\bprobes\.(\w+)\.(\w+)\b")
_INCLUDES = re.compile(rb'^#include "(\w+)/(\w+\.h)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of the probes' folders."""

    digest: bytes
    names: frozenset[Path]
    """The other modules and headers there that it names."""

    @classmethod
    def read(cls, path: Path) -> _Source:
        text = path.read_bytes()
        named = [(folder, name + b".py") for folder, name in _MODULES.findall(text)]
        return cls(
            blake2b(path.name.encode() + text).digest(),
            frozenset(
                _PROBES / folder.decode() / name.decode()
                for folder, name in named + _INCLUDES.findall(text)
                if folder != b"kernel"
            ),
        )


class Keys:
    """The keys of probes for one request on this kernel."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._sources: dict[Path, _Source | None] = {}

    def key(self, name: str) -> str:
        """32 hex digits, for the probe of that name; empty where it has no file."""
        own = self._programs.get(name)
        if own is None:
            return ""
        digest = blake2b(self._common, digest_size=16)
        digest.update(repr((name, self._request.kinds.index(name))).encode())
        for _path, source in sorted(self._needed({own, own.with_suffix(".py")}).items()):
            digest.update(source.digest)
        return digest.hexdigest()

    @cached_property
    def _programs(self) -> dict[str, Path]:
        return {path.stem: path for path in _PROBES.glob("*/*.c")}

    def _needed(self, pending: set[Path]) -> dict[Path, _Source]:
        """These files, all that they name, and so on."""
        found: dict[Path, _Source] = {}
        while pending:
            path = pending.pop()
            if path not in self._sources:
                self._sources[path] = _Source.read(path) if path.is_file() else None
            source = self._sources[path]
            if source is not None and path not in found:
                found[path] = source
                pending |= source.names
        return found

    @cached_property
    def _common(self) -> bytes:
        digest = blake2b()
        for path in _KERNEL:
            with suppress(OSError):
                digest.update(path.read_bytes())
        bcc = find_spec("bcc")
        folders = [*(bcc.submodule_search_locations or ())] if bcc else []
        for path in [Path(folder) / "version.py" for folder in folders]:
            with suppress(OSError):
                digest.update(path.read_bytes())
        for path in sorted((*_PROBES.glob("*.py"), *_PROBES.glob("kernel/*.py"), *_PROBES.glob("kernel/*.h"))):
            digest.update(path.name.encode() + path.read_bytes())
        request = self._request
        digest.update(repr((request.attach, request.histogram, len(request.kinds), os.cpu_count())).encode())
        digest.update(Path("/sys/devices/system/cpu/possible").read_bytes())
        return digest.digest()


class Cache:
    """The folder that a request names; "" for none. Whatever fails only costs the time to compile."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self, name: str, key: str) -> Object | None:
        """What was written under this key; None if there is nothing that can be trusted."""
        with suppress(OSError, msgspec.MsgspecError), self._open() as folder:
            fd = os.open(_file(name, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
            with open(fd, "rb") as file:
                if not _is_ours(os.fstat(fd), stat.S_ISREG):
                    return None
                content = file.read()
            if blake2b(content[_DIGEST:], digest_size=_DIGEST, key=key.encode()).digest() != content[:_DIGEST]:
                return None
            os.utime(_file(name, key), dir_fd=folder, follow_symlinks=False)
            return msgspec.msgpack.decode(content[_DIGEST:], type=Object)
        return None

    def write(self, name: str, key: str, compiled: Object) -> None:
        """Keep it, as a whole or not at all; older files of the probe go, but for a few."""
        content = msgspec.msgpack.encode(compiled)
        digest = blake2b(content, digest_size=_DIGEST, key=key.encode()).digest()
        temporary = f".{name}.{os.getpid()}"
        with suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with suppress(OSError), self._open() as folder:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                with open(fd, "wb") as file:
                    file.write(digest + content)
                os.replace(temporary, _file(name, key), src_dir_fd=folder, dst_dir_fd=folder)
            except OSError:
                os.unlink(temporary, dir_fd=folder)
                raise
            _prune(folder, name)

    def remove(self, name: str, key: str) -> None:
        """Forget what this kernel does not take."""
        with suppress(OSError), self._open() as folder:
            os.unlink(_file(name, key), dir_fd=folder)

    @contextmanager
    def _open(self) -> Iterator[int]:
        if not self._folder:
            raise FileNotFoundError(self._folder)
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not _is_ours(os.fstat(fd), stat.S_ISDIR):
                raise PermissionError(self._folder)
            yield fd
        finally:
            os.close(fd)


def _file(name: str, key: str) -> str:
    return f"{name}-{key}.bpf"


def _is_ours(status: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether nobody but root and this user could have written it."""
    return is_kind(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022


def _prune(folder: int, name: str) -> None:
    files = [file for file in os.listdir(folder) if re.fullmatch(rf"{name}-[0-9a-f]{{32}}\.bpf", file)]
    newest = sorted(files, key=lambda file: os.stat(file, dir_fd=folder).st_mtime_ns, reverse=True)
    for file in newest[_KEPT:]:
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=folder)
