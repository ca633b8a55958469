# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of ``config.toml`` but for the sinks', with every default. That file says what the keys mean."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.tables import guess, shown
from probes.filters import Filters
from probes.probe import Attach
from probes.registry import all_probes

_KIB, _MIB = 1 << 10, 1 << 20
_MAP_ENTRIES = 1024
"""Of the kernel maps that hold a filter's list."""

_DAY = 86_400.0

FilePath = Annotated[str, Meta(description="paths")]
FolderPath = Annotated[str, Meta(description="paths")]
UserId = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF, description="user ids from 0 to 4_294_967_295")]
Seconds = Annotated[float, Meta(ge=0.1, le=_DAY)]


_GROUPS = ("default", "all")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Collector(Table, frozen=True, kw_only=True):
    """``[collector]``: what goes into the kernel, and how bytes come out."""

    probes: tuple[str, ...] = ("default",)
    """Names; in an instance never "default" or "all", but the names for which they stand."""

    attach: Attach = "best"
    cache: FolderPath = "/var/cache/hookline/probes"

    ring_bytes: Annotated[int, Meta(ge=64 * _KIB, le=1 << 30)] = 8 * _MIB
    wakeup_bytes: Annotated[int, Meta(ge=_KIB, le=1 << 30)] = 256 * _KIB
    poll_interval_ms: Annotated[int, Meta(ge=1, le=10_000)] = 50
    span_bytes: Annotated[int, Meta(ge=4 * _KIB, le=64 * _MIB)] = 128 * _KIB
    unix_sockets: bool = False
    uprobe_files: Annotated[int, Meta(ge=0, le=10_000)] = 128
    uprobe_search_s: Annotated[float, Meta(ge=1.0, le=_DAY)] = 60.0

    def __post_init__(self) -> None:
        if self.ring_bytes & (self.ring_bytes - 1):
            raise ValueError(f"ring_bytes must be a power of two, not {self.ring_bytes}")
        if self.cache and (not self.cache.startswith("/") or "\0" in self.cache):
            raise ValueError(f"cache must be an absolute path, or empty for none, not {shown(self.cache)}")
        try:
            msgspec.structs.force_setattr(self, "probes", probe_names(self.probes))
        except ValueError as error:
            raise ValueError(f"probes must {error}") from None


class FilterTable(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[filters]``: what the kernel leaves out."""

    exe: Annotated[tuple[FilePath, ...], Meta(max_length=_MAP_ENTRIES)] = ()
    become_root: Annotated[tuple[FilePath, ...], Meta(max_length=_MAP_ENTRIES)] = ()
    uid: Annotated[tuple[UserId, ...], Meta(max_length=_MAP_ENTRIES)] = ()
    refresh_s: Seconds = 5.0

    def __post_init__(self) -> None:
        for name, paths in (("exe", self.exe), ("become_root", self.become_root)):
            for path in paths:
                if not path.startswith("/") or "\0" in path:
                    raise ValueError(f"{name} must be a list of absolute paths, not with {shown(path)}")
        if len(self.exe) + len(self.become_root) > _MAP_ENTRIES:
            raise ValueError(f"exe and become_root must have at most {_MAP_ENTRIES} paths together")


class Pipeline(Table, frozen=True, kw_only=True):
    """``[pipeline]``: batches between the stages."""

    queue_batches: Annotated[int, Meta(ge=1, le=1024)] = 1
    batch_events: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    batch_bytes: Annotated[int, Meta(ge=4 * _KIB, le=256 * _MIB)] = 2 * _MIB
    batch_age_ms: Annotated[int, Meta(ge=1, le=60_000)] = 100
    remembered_texts: Annotated[int, Meta(ge=16, le=1 << 20)] = 1024
    shutdown_s: Annotated[float, Meta(ge=0.1, le=600.0)] = 4.0


class Hashes(Table, frozen=True, kw_only=True):
    """``[enrich.hashes]``."""

    enabled: bool = True
    sha256: bool = False
    created_files: bool = True
    max_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 100 * _MIB
    bytes_per_s: Annotated[int, Meta(ge=_MIB, le=1 << 40)] = 128 * _MIB
    cache_entries: Annotated[int, Meta(ge=1, le=1 << 20)] = 4096
    order_ms: Annotated[int, Meta(ge=0, le=60_000)] = 20
    wait_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 2.0
    close_wait_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 1.0
    waiting_files: Annotated[int, Meta(ge=1, le=1 << 16)] = 4096
    waiting_events: Annotated[int, Meta(ge=1, le=1 << 20)] = 8192
    open_files: Annotated[int, Meta(ge=0, le=1 << 16)] = 128
    workers: Annotated[int, Meta(ge=1, le=64)] = 2
    hung_workers: Annotated[int, Meta(ge=0, le=64)] = 8


class ProcessTree(Table, frozen=True, kw_only=True):
    """``[enrich.process_tree]``."""

    depth: Annotated[int, Meta(ge=1, le=256)] = 12
    max_processes: Annotated[int, Meta(ge=1024, le=1 << 22)] = 65_536


class Users(Table, frozen=True, kw_only=True):
    """``[enrich.users]``."""

    refresh_s: Seconds = 1.0


class HostTable(Table, frozen=True, kw_only=True):
    """``[enrich.host]``."""

    refresh_s: Seconds = 30.0


class ContainersTable(Table, frozen=True, kw_only=True):
    """``[enrich.containers]``."""

    enabled: bool = True
    cache_entries: Annotated[int, Meta(ge=16, le=1 << 20)] = 4096
    wait_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.5
    docker: tuple[FolderPath, ...] = ("/var/lib/docker",)
    containerd: tuple[FolderPath, ...] = ("/run/containerd", "/run/k3s/containerd")
    storage: tuple[FolderPath, ...] = ("/var/lib/containers/storage", "/run/containers/storage")

    def __post_init__(self) -> None:
        for name in ("docker", "containerd", "storage"):
            for path in getattr(self, name):
                if not path.startswith("/") or "\0" in path:
                    raise ValueError(f"{name} must be a list of absolute paths, not with {shown(path)}")


class Enrich(Table, frozen=True, kw_only=True):
    """``[enrich]``."""

    hashes: Hashes = Hashes()
    process_tree: ProcessTree = ProcessTree()
    containers: ContainersTable = ContainersTable()
    users: Users = Users()
    host: HostTable = HostTable()


class Metrics(Table, frozen=True, kw_only=True):
    """``[metrics]``: the Prometheus endpoint."""

    listen: str = "127.0.0.1:9464"
    allow_remote: bool = False

    def __post_init__(self) -> None:
        address = self.address()
        if address is None or self.allow_remote or address[0] == "::1" or address[0].startswith("127."):
            return
        raise ValueError(
            f"listen must be a loopback address such as 127.0.0.1:9464 unless metrics.allow_remote is true, "
            f"not {shown(self.listen)}"
        )

    def address(self) -> tuple[str, int] | None:
        """Address and port; None: no endpoint. Raises ValueError for anything else than ADDRESS:PORT."""
        if not self.listen:
            return None
        host, _, port = self.listen.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        address = host[1:-1] if bracketed else host
        try:
            if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
                raise ValueError(port)
            socket.inet_pton(socket.AF_INET6 if bracketed else socket.AF_INET, address)
        except (OSError, ValueError):
            raise ValueError(
                f"listen must be ADDRESS:PORT such as 127.0.0.1:9464 or [::1]:9464, or empty for no "
                f"endpoint, not {shown(self.listen)}"
            ) from None
        return address, int(port)


class Log(Table, frozen=True, kw_only=True):
    """``[log]``: what the collector says about itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


def probe_names(names: Iterable[str]) -> tuple[str, ...]:
    """Every one of `names` once, in the registry's order; "default" and "all" stand for several.

    Raises:
        ValueError: its text continues a sentence that begins "... must".
    """
    known = all_probes()
    wanted = dict.fromkeys(names)
    for name in wanted:
        if name not in (*known, *_GROUPS):
            raise ValueError(f"name any of {', '.join(known)}, default or all, not {shown(name)}{guess(name, known)}")
    if not wanted:
        raise ValueError(f"name at least one of {', '.join(known)}, default or all")
    return tuple(
        name
        for name, probe in known.items()
        if name in wanted or "all" in wanted or ("default" in wanted and probe.default)
    )
