# SPDX-License-Identifier: GPL-2.0-or-later
"""The configuration: a file, the command line's options over it, and what of it goes into the kernel."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from pipeline.settings import Collector, Enrich, FilterTable, Log, Metrics, Pipeline, Table, probe_names
from pipeline.tables import ConfigError, either, fill, read, shown
from probes.filters import Filters, MapSettings
from probes.probe import Attach
from sinks.console import ConsoleConfig
from sinks.elasticsearch import ElasticsearchConfig
from sinks.file import FileConfig, check_place
from sinks.kafka import KafkaConfig
from sinks.protocol import Schema
from sinks.spool import SpoolConfig

__all__ = ["AnySink", "Config", "ConfigError", "load", "map_settings", "with_overrides"]

AnySink = FileConfig | ConsoleConfig | KafkaConfig | ElasticsearchConfig

_SINKS: Mapping[str, type[AnySink]] = {
    "file": FileConfig,
    "console": ConsoleConfig,
    "kafka": KafkaConfig,
    "elasticsearch": ElasticsearchConfig,
}
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Config(Table, frozen=True, kw_only=True):
    """The whole file."""

    collector: Collector = Collector()
    filters: FilterTable = FilterTable()
    pipeline: Pipeline = Pipeline()
    enrich: Enrich = Enrich()
    metrics: Metrics = Metrics()
    log: Log = Log()
    spool: SpoolConfig = SpoolConfig()
    sinks: Mapping[str, AnySink] = msgspec.field(default_factory=lambda: {"console": ConsoleConfig()})
    """By their names, never empty."""


def _sink(name: str, given: object) -> AnySink:
    at = f"sinks.{name}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"sinks.{shown(name)} is not a name; use letters, digits, _ and -")
    if not isinstance(given, dict):
        raise ConfigError(f"{at} must be a table, not {shown(given)}")
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _SINKS:
        problem = (
            f"must be {either(_SINKS)}, not {shown(kind)}"
            if "type" in given
            else f"is missing; it must be {either(_SINKS)}"
        )
        raise ConfigError(f"{at}.type {problem}")
    return fill(_SINKS[kind], {key: value for key, value in given.items() if key != "type"}, at)


def load(path: Path) -> Config:
    """The configuration in the file `path`.

    Raises:
        ConfigError: one sentence, with the file and the key.
    """
    given = read(path)
    sinks = given.pop("sinks", {})
    try:
        config = fill(Config, given)
        if not isinstance(sinks, dict):
            raise ConfigError(f"sinks must be a table, not {shown(sinks)}")
        if not sinks:
            return config
        return msgspec.structs.replace(config, sinks={name: _sink(name, sinks[name]) for name in sinks})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def with_overrides(
    config: Config,
    *,
    probes: Iterable[str] = (),
    attach: Attach | None = None,
    output: str | None = None,
    schema: Schema | None = None,
    debug: bool = False,
    lossless: bool = False,
) -> Config:
    """`config` as the options of the command line change it.

    `output` replaces all sinks: by a file, or by standard output for ``-``. `lossless` makes every sink hold
    up the pipeline instead of dropping, which is right where nothing new arrives meanwhile (a replay).

    Raises:
        ConfigError: an unknown probe, an empty `output`.
    """
    replace = msgspec.structs.replace
    if names := tuple(probes):
        try:
            config = replace(config, collector=replace(config.collector, probes=probe_names(names)))
        except ValueError as error:
            raise ConfigError(f"--probe must {error}") from None
    if attach is not None:
        config = replace(config, collector=replace(config.collector, attach=attach))
    if output is not None:
        if not output:
            raise ConfigError("--output must name a file, or be - for standard output")
        sink = ConsoleConfig() if output == "-" else FileConfig(path=output)
        config = replace(config, sinks={"output": sink})
    changes: dict[str, str] = {}
    if schema is not None:
        changes["schema"] = schema
    if lossless:
        changes["when_full"] = "block"
    if changes:
        try:
            config = replace(config, sinks={name: replace(each, **changes) for name, each in config.sinks.items()})
        except ValueError as error:
            raise ConfigError(f"--schema {schema} fits not every sink: {error}") from None
    return replace(config, log=replace(config.log, level="debug")) if debug else config


def check_places(config: Config) -> None:
    """Look whether file sinks could be opened, as far as any user can see without opening them.

    Raises:
        ConfigError: two have one path.
        SinkError: a folder is missing, or something else has the path.
    """
    taken: dict[str, str] = {}
    for name, sink in config.sinks.items():
        if isinstance(sink, FileConfig):
            check_place(sink.path)
            other = taken.setdefault(os.path.realpath(sink.path), name)
            if other != name:
                raise ConfigError(f"sinks.{name}.path is that of sinks.{other} too: choose another path")


def map_settings(config: Config, own_tgid: int) -> MapSettings:
    """What the kernel's maps are filled from; `own_tgid` is the collector's process id."""
    table = config.filters
    filters = Filters(
        exe=table.exe,
        become_root=table.become_root,
        uid=table.uid,
        loopback=table.loopback,
        own_process=table.own_process,
    )
    return MapSettings(
        filters=filters,
        own_tgid=own_tgid,
        # In a small ring a wakeup must come before the ring is full.
        wakeup_bytes=min(config.collector.wakeup_bytes, config.collector.ring_bytes // 4),
        unix_sockets=config.collector.unix_sockets,
    )
