# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of container runtimes say of a container. No daemon is asked, so none need run or answer.

- docker: ``containers/ID/config.v2.json`` below its data root.
- containerd, for Kubernetes too: ``io.containerd.runtime.v2.task/NAMESPACE/ID/config.json`` below its state.
- podman and CRI-O: ``DRIVER-containers/ID/userdata/config.json`` below a storage root, and ``containers.json`` beside.

A file counts only if it belongs to whom the container does, and nobody else can write to it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

_LARGEST = 32 << 20
"""Bytes of a file of root's that is read; ``containers.json`` has about 1 KiB a container."""

_LARGEST_CONFIG = 64 << 10
_LARGEST_LIST = 1 << 20
"""The same of other users' files, ``config.json`` and ``containers.json``: who writes them may want to do harm."""

_MOST_ENTRIES = 256
_MOST_STORES = 8
"""Entries of a user's storage that are looked at, and folders of containers among them."""

_ROOTLESS = ".local/share/containers/storage"
"""Podman's storage below a user's home."""

_TEXT = 512
"""Characters of a name that are kept."""


class Roots(NamedTuple):
    """Folders to look below."""

    docker: tuple[str, ...]
    containerd: tuple[str, ...]
    storage: tuple[str, ...]


class _Stored(msgspec.Struct):
    """What is wanted of an entry of ``containers.json``."""

    id: str = ""
    names: list[str] | None = None
    metadata: str | None = None


class Description(NamedTuple):
    """What is known of a container; empty texts where the files do not say."""

    runtime: str
    name: str = ""
    image: str = ""
    pod: str = ""
    namespace: str = ""


def describe(container: str, owner: int, home: str, roots: Roots) -> Description | None:
    """The container of that id, 64 hexadecimal digits, that belongs to user `owner`, whose home is `home`.

    None where no runtime has it. Blocks, and reads whatever the files hold without failing.
    """
    if owner:
        roots = Roots((), (), (f"{home}/{_ROOTLESS}",) if home.startswith("/") else ())
    for path in (Path(root, "containers", container, "config.v2.json") for root in roots.docker):
        if (config := _read(path, owner)) is not None:
            return _docker(_object(config))
    for path in _below(roots.containerd, "io.containerd.runtime.v2.task", container, "config.json"):
        if (config := _read(path, owner)) is not None:
            return _containerd(_texts(_object(config).get("annotations")))
    for root in roots.storage:
        for folder in _stores(Path(root), owner):
            config = _read(folder / container / "userdata/config.json", owner)
            if config is not None:
                stored = _stored(container, _read(folder / "containers.json", owner, list[_Stored], _LARGEST_LIST))
                return _storage(_texts(_object(config).get("annotations")), stored)
    return None


def _stores(root: Path, owner: int) -> list[Path]:
    found = [each for each in _folders(root, _MOST_ENTRIES if owner else None) if each.name.endswith("-containers")]
    return found[:_MOST_STORES] if owner else found


def _below(roots: tuple[str, ...], folder: str, *rest: str) -> Iterator[Path]:
    for root in roots:
        for namespace in _folders(Path(root, folder)):
            yield namespace.joinpath(*rest)


def _folders(path: Path, most: int | None = None) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(path / entry.name for entry in islice(entries, most))
    except OSError:
        return []


def _read(path: Path, owner: int, kind: Any = Any, most_of_users: int = _LARGEST_CONFIG) -> Any:
    """The JSON of a file of `owner`; None where there is none that counts."""
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hold the worker.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    largest = most_of_users if owner else _LARGEST
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner or status.st_size > largest:
            return None
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        try:
            read = msgspec.json.decode(file.read(largest), type=kind)
        except (OSError, msgspec.DecodeError, RecursionError):
            return None
    return read if isinstance(read, dict | list) else None


def _object(given: object) -> Mapping[str, Any]:
    return given if isinstance(given, dict) else {}


def _texts(given: object) -> Mapping[str, str]:
    """The texts of an object of labels or annotations, without what parts them in an event."""
    return {key: _text(value) for key, value in _object(given).items()}


def _text(given: object) -> str:
    return given.replace("\0", "")[:_TEXT] if isinstance(given, str) else ""


def _docker(config: Mapping[str, Any]) -> Description:
    inner = _object(config.get("Config"))
    labels = _texts(inner.get("Labels"))
    return Description(
        "docker",
        labels.get("io.kubernetes.container.name") or _text(config.get("Name")).removeprefix("/"),
        _text(inner.get("Image")),
        labels.get("io.kubernetes.pod.name", ""),
        labels.get("io.kubernetes.pod.namespace", ""),
    )


def _containerd(annotations: Mapping[str, str]) -> Description:
    is_sandbox = annotations.get("io.kubernetes.cri.container-type") == "sandbox"
    return Description(
        "containerd",
        annotations.get("io.kubernetes.cri.container-name")
        or ("POD" if is_sandbox else annotations.get("nerdctl/name", "")),
        annotations.get("io.kubernetes.cri.image-name", ""),
        annotations.get("io.kubernetes.cri.sandbox-name", ""),
        annotations.get("io.kubernetes.cri.sandbox-namespace", ""),
    )


def _stored(container: str, containers: list[_Stored] | None) -> _Stored:
    """The entry of a container in ``containers.json``."""
    return next((each for each in containers or () if each.id == container), _Stored())


def _storage(annotations: Mapping[str, str], stored: _Stored) -> Description:
    name = _text(stored.names[0]) if stored.names else ""
    try:
        metadata = msgspec.json.decode(stored.metadata or "")
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        metadata = None
    image = _texts(metadata).get("image-name", "")
    if annotations.get("io.container.manager") == "libpod":
        return Description("podman", name, image)
    return Description(
        "cri-o",
        annotations.get("io.kubernetes.container.name") or name,
        annotations.get("io.kubernetes.cri-o.ImageName") or image,
        annotations.get("io.kubernetes.pod.name", ""),
        annotations.get("io.kubernetes.pod.namespace", ""),
    )
