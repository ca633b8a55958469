# SPDX-License-Identifier: GPL-2.0-or-later
"""Elasticsearch's templates: the mapping comes from the declarations of events."""

from __future__ import annotations

from typing import Any

from pipeline.encode.names import ecs_types
from pipeline.gap import Gap
from probes.fields import EcsType
from probes.registry import all_events

PATTERN = "logs-hookline.*-*"
POLICY = "hookline"
MAPPINGS = "hookline@mappings"
SETTINGS = "hookline@settings"
CUSTOM = "hookline@custom"
"""A component template that is the administrator's own: composed in if it is there, never written."""

TEMPLATE = "logs-hookline"
_PRIORITY = 200
"""Above the 100 that Elasticsearch's own template for logs-*-* has."""

_KEYWORD = {"type": "keyword", "ignore_above": 8191}
"""8,191 characters of four bytes are what Lucene takes as one term; longer values are kept and not indexed."""

_LENIENT = {"ignore_malformed": True}
"""A value that does not fit, however a process brought it about, must not keep its event from being stored."""

_TYPES: dict[EcsType, dict[str, Any]] = {
    "keyword": _KEYWORD,
    "wildcard": _KEYWORD,  # a type that not every server has
    "long": {"type": "long", **_LENIENT},
    "ip": {"type": "ip", **_LENIENT},
    "date": {"type": "date", **_LENIENT},
    "boolean": {"type": "boolean", **_LENIENT},
    "object": {"type": "object", "enabled": False},
}
_SPECIAL: dict[str, dict[str, Any]] = {
    "@timestamp": {"type": "date_nanos"},
    "dns.answers": {
        "properties": {
            **dict.fromkeys(("name", "type", "class", "data"), _KEYWORD),
            "ttl": {"type": "long", **_LENIENT},
        }
    },
}


def mappings() -> dict[str, Any]:
    """The mapping of every field of every event. Fields that a newer collector adds are stored, not indexed."""
    root: dict[str, Any] = {"dynamic": False, "properties": {}}
    for name, kind in sorted(ecs_types((*all_events(), Gap)).items()):
        *groups, last = name.split(".")
        table = root["properties"]
        for group in groups:
            table = table.setdefault(group, {"properties": {}})["properties"]
        leaf = dict(_SPECIAL.get(name) or _TYPES[kind])
        if name.endswith(".command_line"):
            leaf["fields"] = {"text": {"type": "text"}}
        table[last] = leaf
    return root


def policy(keep_days: int) -> dict[str, Any]:
    """The lifecycle: a new index each 50 GB or 30 days, deleted `keep_days` after."""
    return {
        "policy": {
            "phases": {
                "hot": {"actions": {"rollover": {"max_primary_shard_size": "50gb", "max_age": "30d"}}},
                "delete": {"min_age": f"{keep_days}d", "actions": {"delete": {}}},
            },
            "_meta": {"managed_by": "hookline"},
        }
    }


def templates(*, lifecycle: bool) -> dict[str, dict[str, Any]]:
    """What to PUT, by path, in this order. `lifecycle`: whether the server has the policy."""
    index: dict[str, Any] = {"codec": "best_compression"}
    if lifecycle:
        index["lifecycle"] = {"name": POLICY}
    meta = {"managed_by": "hookline"}
    return {
        f"/_component_template/{MAPPINGS}": {"template": {"mappings": mappings()}, "_meta": meta},
        f"/_component_template/{SETTINGS}": {"template": {"settings": {"index": index}}, "_meta": meta},
        f"/_index_template/{TEMPLATE}": {
            "index_patterns": [PATTERN],
            "data_stream": {},
            "priority": _PRIORITY,
            "composed_of": [MAPPINGS, SETTINGS, CUSTOM],
            "ignore_missing_component_templates": [CUSTOM],
            "_meta": meta,
        },
    }
