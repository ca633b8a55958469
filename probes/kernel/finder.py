# SPDX-License-Identifier: GPL-2.0-or-later
"""The finder child: ``python -m probes.kernel.finder SOCKET``.

It looks for files that user probes attach to, attaches, and hands over the links. It reads what others control, so
it is a process of its own: one that is stuck is killed, and what it read takes no memory of the collector's. Each
message on the socket (SOCK_SEQPACKET) is JSON, with the links of the file that it tells of; at its end the child is
done.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import Counter
from collections.abc import Iterable

import msgspec

from probes.identity import FileId
from probes.kernel import files
from probes.kernel.attach import attach_uprobe
from probes.kernel.elf import Elf, ElfError
from probes.probe import Files, Hook
from probes.registry import all_probes
from probes.text import to_text

_MOST_ROOTS = 1024
"""Roots of processes whose places are looked at in one search."""

_LONGEST_NAME = 512
"""Characters of what is about to be opened that are told; beyond, what begins alike is avoided alike."""

_PART = 256
"""Files of one message: far below what a socket's buffer takes."""

_MOST_REFUSED = 16
"""Files of one process that cannot be attached to; of one with more, no others are tried in that search."""

_NICE = 10


class Search(msgspec.Struct, frozen=True):
    """What the collector wants."""

    programs: tuple[tuple[str, str, int], ...]
    """Probe, program, and its descriptor, which the child inherits."""

    known: tuple[FileId, ...]
    """Files that need nothing more: they have been attached to, or cannot be."""

    pids: tuple[int, ...]
    """Processes to look at; none: all."""

    room: int
    """Files that may still be attached to."""

    avoid: tuple[str, ...] = ()
    """What a child before this one was stuck at."""


class Opening(msgspec.Struct, frozen=True, tag=True):
    """The child is about to open something whose file system may not answer."""

    what: str


class Attached(msgspec.Struct, frozen=True, tag=True):
    """A file, with the links that come along; none: it cannot be attached to, for that reason."""

    key: FileId
    files: str
    path: str
    pid: int
    reason: str = ""


class Found(msgspec.Struct, frozen=True, tag=True):
    """Files that were come across, in the end; in parts, since a message has no room for many."""

    keys: tuple[FileId, ...]
    left_out: int
    """Files that there was no room for."""

    is_more_to_come: bool = False


Message = Opening | Attached | Found


class _Finder:
    def __init__(self, search: Search, channel: socket.socket) -> None:
        self._search = search
        self._channel = channel
        self._hooks = _hooks(search)
        self._patterns = {kind: files.mapped_pattern(kind.names) for kind in self._hooks}
        self._own = files.namespace_of(os.getpid())
        self._roots: set[tuple[int, ...]] = set()
        self._known = set(search.known)
        self._found: set[FileId] = set()
        self._seen: set[tuple[object, ...]] = set()
        self._room = search.room
        self._left_out = 0
        self._refused: Counter[int] = Counter()
        """By process."""

    def run(self) -> None:
        for pid in self._search.pids or files.pids():
            namespace = files.namespace_of(pid)
            if namespace is not None:
                self._look_at(pid, namespace)
        keys = tuple(self._found)
        for at in range(0, len(keys), _PART):
            self._send(Found(keys[at : at + _PART], self._left_out, is_more_to_come=True), ())
        self._send(Found((), self._left_out), ())

    def _look_at(self, pid: int, namespace: int) -> None:
        if not self._may_open(namespace, "/"):
            return
        root = (namespace, *(files.root_of(pid) or ()))
        new = root not in self._roots and len(self._roots) < _MOST_ROOTS
        self._roots.add(root)
        for kind, hooks in self._hooks.items():
            for place in files.mapped(pid, self._patterns[kind]):
                self._take(place, namespace, kind, hooks)
            for relative in kind.places:
                if (new or (relative.startswith("../") and self._search.pids)) and self._may_open(namespace, relative):
                    for place in files.placed(pid, root, relative):
                        self._take(place, namespace, kind, hooks)

    def _take(self, place: files.Place, namespace: int, kind: Files, hooks: list[tuple[Hook, int]]) -> None:
        identity = (kind.name, *place.identity)
        if identity in self._seen or not self._may_open(namespace, to_text(place.path)):
            return
        self._seen.add(identity)
        try:
            with files.opened(place) as (fd, status):
                key = files.key_of(fd, status)
                self._found.add(key)
                if key not in self._known:
                    self._attach(key, place, kind, hooks, fd)
        except OSError:
            return  # gone meanwhile, or nothing that a program could have mapped

    def _attach(self, key: FileId, place: files.Place, kind: Files, hooks: list[tuple[Hook, int]], fd: int) -> None:
        if not self._room or self._refused[place.pid] >= _MOST_REFUSED:
            self._left_out += 1
            return
        self._known.add(key)
        links: list[int] = []
        reason = ""
        try:
            elf = Elf(fd)
            for hook, program in hooks:
                offset = next((at for name in hook.target.split("|") if (at := elf.function(name)) is not None), None)
                if offset is None:
                    raise ElfError(f"it does not export {hook.target}")
                links.append(attach_uprobe(program, f"/proc/self/fd/{fd}", offset, hook.mechanism == "uretprobe"))
        except (ElfError, OSError) as error:
            reason = str(error)
            _close(links)
            links = []
        self._room -= bool(links)
        self._refused[place.pid] += not links
        self._send(Attached(key, kind.name, to_text(place.path), place.pid, reason), links)
        _close(links)

    def _may_open(self, namespace: int, path: str) -> bool:
        """Whether no child was stuck there. A container where one was is left out as a whole."""
        what = path[:_LONGEST_NAME] if namespace == self._own else f"mount namespace {namespace}"
        if what in self._search.avoid:
            return False
        self._send(Opening(what), ())
        return True

    def _send(self, message: Message, links: Iterable[int]) -> None:
        socket.send_fds(self._channel, [msgspec.json.encode(message)], list(links))


def _close(links: list[int]) -> None:
    for link in links:
        os.close(link)


def _hooks(search: Search) -> dict[Files, list[tuple[Hook, int]]]:
    """What attaches to which files."""
    wanted: dict[Files, list[tuple[Hook, int]]] = {}
    for probe, program, fd in search.programs:
        for form in all_probes()[probe].forms:
            for hook in form.hooks:
                if hook.program == program and hook.files is not None:
                    wanted.setdefault(hook.files, []).append((hook, fd))
    return wanted


def main() -> None:
    """Serve one search on the socket whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    search = msgspec.json.decode(channel.recv(1 << 20), type=Search)
    if not search.pids:
        os.nice(_NICE)
    _Finder(search, channel).run()


if __name__ == "__main__":
    main()
