# SPDX-License-Identifier: GPL-2.0-or-later
"""``hookline setup`` and ``hookline deadletter``: what is done beside a running collector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from sinks.elasticsearch import ElasticsearchConfig
    from sinks.protocol import SinkConfig

_Kind = TypeVar("_Kind", bound="SinkConfig")

setup_app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Prepare the servers that events go to.")
deadletter_app = typer.Typer(
    add_completion=False, rich_markup_mode=None, help="Events that a server refused for good, and kept in a file."
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration. [default: built-in defaults]")
]
SinkOption = Annotated[
    str | None, typer.Option("--sink", metavar="NAME", help="Which sink, where the configuration has several.")
]


@setup_app.callback()
def _setup() -> None:
    """Prepare the servers that events go to."""


@setup_app.command()
def elasticsearch(
    config: ConfigOption = None,
    sink: SinkOption = None,
    kibana: Annotated[
        str | None, typer.Option("--kibana", metavar="URL", help="Install data view, searches and dashboard there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
) -> int:
    """Install templates and lifecycle in Elasticsearch, and Kibana's objects. Running it again does no harm."""
    from pipeline.setup.elasticsearch import setup

    return setup(_elasticsearch(config, sink), kibana, dry_run=dry_run, say=typer.echo)


@deadletter_app.command("list")
def list_letters(
    config: ConfigOption = None,
    sink: SinkOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines, with the events.")] = False,
) -> int:
    """List the dead letters of an elasticsearch or kafka sink, oldest first."""
    from pipeline.setup.letters import show
    from sinks.elasticsearch import ElasticsearchConfig
    from sinks.kafka import KafkaConfig

    kinds: tuple[type[ElasticsearchConfig | KafkaConfig], ...] = (ElasticsearchConfig, KafkaConfig)
    return show(_sink(config, sink, *kinds), as_json=as_json)


@deadletter_app.command()
def replay(config: ConfigOption = None, sink: SinkOption = None) -> int:
    """Send those of an elasticsearch sink again. Those that are refused again stay, with the new reason."""
    from pipeline.setup.letters import send_again

    return send_again(_elasticsearch(config, sink))


def _elasticsearch(path: Path | None, name: str | None) -> ElasticsearchConfig:
    from sinks.elasticsearch import ElasticsearchConfig

    return _sink(path, name, ElasticsearchConfig)


def _sink(path: Path | None, name: str | None, *kinds: type[_Kind]) -> _Kind:
    """The sink of these kinds that is meant; the first one's defaults where there is no file. Raises ConfigError."""
    from pipeline.config import ConfigError, load

    if path is None:
        return kinds[0]()
    sinks = {key: each for key, each in load(path).sinks.items() if isinstance(each, kinds)}
    if name is None and len(sinks) == 1:
        (only,) = sinks.values()
        return only
    if name in sinks:
        return sinks[name]
    known = ", ".join(sinks) or "none"
    words = " or ".join(str(kind.__struct_config__.tag) for kind in kinds)
    raise ConfigError(f"{path}: --sink must name an {words} sink of the file, which are: {known}")
