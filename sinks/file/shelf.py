# SPDX-License-Identifier: GPL-2.0-or-later
"""The rotated files beside the current one: their names, their compression, their end.

``events.ndjson`` becomes ``events-20260131T235959Z-0.ndjson``, later with ``.zst``. Time, then number, is the
order of rotation even if the clock was set back.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from sinks.file.compress import compress
from sinks.file.durable import sync_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sinks.file.config import FileConfig
    from sinks.file.counters import Counters


# What link says on file systems without hard links: FAT, and many behind FUSE or the network.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


class _Age(NamedTuple):
    stamp: str
    number: int


class Shelf:
    """Where the current file goes when it is full. Blocking; ``take`` and ``tend`` may run in two threads."""

    def __init__(self, config: FileConfig, counters: Counters, now: Callable[[], float]) -> None:
        self._config = config
        self._counters = counters
        self._now = now
        self._directory, name = os.path.split(config.path)
        self._stem, self._suffix = os.path.splitext(name)
        self._pattern = re.compile(
            rf"{re.escape(self._stem)}-(\d{{8}}T\d{{6}}Z)-(\d+){re.escape(self._suffix)}(|\.zst|\.zst\.tmp)",
            re.ASCII,
        )
        self._newest: _Age | None = None
        self._synced: _Age | None = None
        self._stopped = False

    def take(self) -> None:
        """Move the current file onto the shelf, under a name that nothing had.

        Raises:
            OSError: it was not moved.
        """
        if self._newest is None:
            self._newest = max(self._listing(), default=_Age("", 0))
        stamp = max(self._newest.stamp, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._now())))
        age = _Age(stamp, self._newest.number + 1 if stamp == self._newest.stamp else 0)
        while not self._move_to(self._name(age)):
            age = _Age(stamp, age.number + 1)
        self._newest = age

    def complete(self) -> None:
        """Finish what ``take`` was doing in an earlier process that crashed, before the path is opened.

        Raises:
            OSError: the directory cannot be read or changed.
        """
        try:
            status = os.lstat(self._config.path)
        except FileNotFoundError:
            return
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            plain = [self._name(age) for age, forms in self._listing().items() if "" in forms]
            if any(os.path.samestat(status, os.lstat(name)) for name in plain):
                os.unlink(self._config.path)

    def tend(self) -> None:
        """Delete what is too old and compress the rest, also what an earlier process left undone.

        An OSError is counted, not raised: the file in question waits for the next call.
        """
        shelf: dict[_Age, set[str]] = {}
        with self._forgiving():
            shelf = self._listing()
        for age, forms in shelf.items():
            if ".zst.tmp" in forms:
                with self._forgiving():
                    os.unlink(self._name(age, ".zst.tmp"))
                forms.remove(".zst.tmp")
        ages = sorted(age for age, forms in shelf.items() if forms)
        surplus = max(0, len(ages) - self._config.keep) if self._config.keep else 0
        for age in ages[:surplus]:
            self._delete(age, shelf[age])
        plain = [age for age in ages[surplus:] if "" in shelf[age]]
        # Syncs first: they keep a promise, and compression may take its time.
        for step in (self._sync, self._compress):
            for age in plain:
                with self._forgiving():
                    step(age)

    def stop(self) -> None:
        """Compress no more, so that ``tend`` returns soon; the next process finishes what is left."""
        self._stopped = True

    def _listing(self) -> dict[_Age, set[str]]:
        found: dict[_Age, set[str]] = {}
        with os.scandir(self._directory or ".") as entries:
            for entry in entries:
                if (match := self._pattern.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                    found.setdefault(_Age(match[1], int(match[2])), set()).add(match[3])
        return found

    def _name(self, age: _Age, ending: str = "") -> str:
        return os.path.join(self._directory, f"{self._stem}-{age.stamp}-{age.number}{self._suffix}{ending}")

    def _move_to(self, name: str) -> bool:
        if os.path.lexists(f"{name}.zst"):
            return False
        path = self._config.path
        try:
            # Unlike rename, link overwrites nothing. Reserving the name with an empty file to rename onto is
            # no alternative: ext4 then writes the whole file out first, 0.1 s for the default size.
            os.link(path, name, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(name):
                return False
            os.rename(path, name)
            return True
        try:
            os.unlink(path)
        except BaseException:
            os.unlink(name)
            raise
        return True

    def _delete(self, age: _Age, forms: set[str]) -> None:
        with self._forgiving():
            for ending in forms:
                os.unlink(self._name(age, ending))
            self._counters.deleted += 1

    def _sync(self, age: _Age) -> None:
        if self._config.fsync != "never" and (self._synced is None or age > self._synced):
            sync_path(self._name(age))
            self._synced = age

    def _compress(self, age: _Age) -> None:
        if self._config.compress and compress(self._name(age), lambda: self._stopped):
            self._counters.compressed += 1

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, zstandard.ZstdError):
            self._counters.tend_errors += 1
