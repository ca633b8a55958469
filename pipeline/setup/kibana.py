# SPDX-License-Identifier: GPL-2.0-or-later
"""Kibana's saved objects: a data view, searches, and a dashboard of panels.

``python -m pipeline.setup.kibana`` writes them to deploy/kibana/hookline.ndjson, which Kibana also imports by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.setup.templates import PATTERN

FILE = Path(__file__).parents[2] / "deploy" / "kibana" / "hookline.ndjson"

_VIEW = "hookline-events"
_DASHBOARD = "hookline-overview"
_ROWS = 20
_HALF_WIDTH, _HEIGHT = 24, 12


@dataclass(frozen=True, slots=True)
class Panel:
    """A table of the most frequent values, and the events behind it as a saved search."""

    name: str
    title: str
    query: str
    """In Lucene's language, which Elasticsearch itself reads (query_string)."""

    rows: tuple[str, ...]
    """Fields whose values make the rows, the outermost first."""

    columns: tuple[str, ...]
    """Fields of the saved search."""


PANELS = (
    Panel(
        "executions",
        "Executions",
        "event.action:execve",
        ("process.executable", "user.name"),
        ("host.name", "user.name", "process.executable", "process.command_line", "process.parent.name"),
    ),
    Panel(
        "connections",
        "Connections by process",
        "event.action:connect",
        ("process.executable", "destination.ip", "destination.port"),
        ("host.name", "process.executable", "destination.ip", "destination.port", "event.outcome"),
    ),
    Panel(
        "dns",
        "DNS",
        "event.action:dns",
        ("dns.question.name", "process.executable"),
        ("host.name", "process.executable", "dns.question.name", "dns.response_code", "dns.resolved_ip"),
    ),
    Panel(
        "new-files",
        "New files",
        "event.action:create_file",
        ("process.executable", "file.path"),
        ("host.name", "user.name", "process.executable", "file.path"),
    ),
    Panel(
        "privileges",
        "Privilege changes",
        "event.action:(update_cred OR privilege_escalation)",
        ("event.action", "process.executable", "user.name"),
        ("host.name", "event.action", "process.executable", "user.name", "user.effective.id"),
    ),
    Panel(
        "gaps",
        "Gaps: events that were lost",
        "event.action:gap",
        ("host.name", "hookline.gap.kind", "hookline.gap.cause"),
        ("host.name", "hookline.gap.kind", "hookline.gap.cpu", "hookline.gap.first", "hookline.gap.last"),
    ),
)


def aggregations(panel: Panel) -> dict[str, Any]:
    """What a panel asks Elasticsearch for."""
    inner: dict[str, Any] = {}
    for number, field in reversed(list(enumerate(panel.rows, 2))):
        terms: dict[str, Any] = {"terms": {"field": field, "size": _ROWS, "order": {"_count": "desc"}}}
        inner = {str(number): {**terms, **({"aggs": inner} if inner else {})}}
    return inner


def ndjson() -> str:
    """All objects, one a line, as ``/api/saved_objects/_import`` takes them."""
    return "".join(json.dumps(each, sort_keys=True) + "\n" for each in _objects())


def _objects() -> Iterator[dict[str, Any]]:
    view = {"title": PATTERN, "name": "Hookline", "timeFieldName": "@timestamp"}
    yield {"type": "index-pattern", "id": _VIEW, "attributes": view, "references": []}
    for panel in PANELS:
        yield _search(panel)
        yield _table(panel)
    yield _dashboard()


def _reference(name: str, kind: str, identifier: str) -> dict[str, str]:
    return {"name": name, "type": kind, "id": identifier}


def _source(query: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    name = "kibanaSavedObjectMeta.searchSourceJSON.index"
    source = {"query": {"query": query, "language": "lucene"}, "filter": [], "indexRefName": name}
    return {"searchSourceJSON": json.dumps(source)}, [_reference(name, "index-pattern", _VIEW)]


def _search(panel: Panel) -> dict[str, Any]:
    source, references = _source(panel.query)
    attributes = {
        "title": f"Hookline: {panel.title}",
        "columns": list(panel.columns),
        "sort": [["@timestamp", "desc"]],
        "kibanaSavedObjectMeta": source,
    }
    return {"type": "search", "id": f"hookline-{panel.name}", "attributes": attributes, "references": references}


def _table(panel: Panel) -> dict[str, Any]:
    source, references = _source(panel.query)
    count: dict[str, Any] = {"id": "1", "enabled": True, "type": "count", "schema": "metric", "params": {}}
    buckets = [
        {
            "id": str(number),
            "enabled": True,
            "type": "terms",
            "schema": "bucket",
            "params": {"field": field, "size": _ROWS, "order": "desc", "orderBy": "1"},
        }
        for number, field in enumerate(panel.rows, 2)
    ]
    state = {
        "title": panel.title,
        "type": "table",
        "aggs": [count, *buckets],
        "params": {"perPage": 10, "showTotal": False, "showMetricsAtAllLevels": False},
    }
    attributes = {
        "title": f"Hookline: {panel.title}",
        "visState": json.dumps(state),
        "uiStateJSON": "{}",
        "kibanaSavedObjectMeta": source,
    }
    identifier = f"hookline-{panel.name}-table"
    return {"type": "visualization", "id": identifier, "attributes": attributes, "references": references}


def _dashboard() -> dict[str, Any]:
    panels = []
    references = []
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, 2)
        place = {"x": column * _HALF_WIDTH, "y": row * _HEIGHT, "w": _HALF_WIDTH, "h": _HEIGHT, "i": str(number)}
        panels.append(
            {
                "type": "visualization",
                "panelIndex": str(number),
                "gridData": place,
                "embeddableConfig": {},
                "panelRefName": f"panel_{number}",
            }
        )
        references.append(_reference(f"{number}:panel_{number}", "visualization", f"hookline-{panel.name}-table"))
    attributes = {
        "title": "Hookline: overview",
        "panelsJSON": json.dumps(panels),
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "kibanaSavedObjectMeta": {
            "searchSourceJSON": json.dumps({"query": {"query": "", "language": "kuery"}, "filter": []})
        },
    }
    return {"type": "dashboard", "id": _DASHBOARD, "attributes": attributes, "references": references}


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(ndjson(), encoding="ascii")
