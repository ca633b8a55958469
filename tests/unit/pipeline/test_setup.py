# SPDX-License-Identifier: GPL-2.0-or-later
"""What `hookline setup` would install."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given

from pipeline.cli import invoke
from pipeline.setup import kibana, templates
from probes.event import HostEvent
from tests.unit.pipeline.samples import host_events, lines


def paths(document: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in document.items():
        found |= paths(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def mapped(mapping: dict[str, Any], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, inner in mapping["properties"].items():
        found.add(prefix + name)
        if "properties" in inner:
            found |= mapped(inner, f"{prefix}{name}.")
    return found


MAPPED = mapped(templates.mappings())


@given(host_events())
def test_the_mapping_knows_every_field(event: HostEvent) -> None:
    """Whatever fields a document of any kind has, the mapping has them."""
    assert paths(json.loads(lines([event], "ecs")[0])) <= MAPPED


def test_kibanas_file_is_up_to_date() -> None:
    """deploy/kibana/hookline.ndjson is what is installed; if not: .venv/bin/python -m pipeline.setup.kibana"""
    assert kibana.FILE.read_text(encoding="ascii") == kibana.ndjson()


def test_kibanas_objects_refer_to_each_other() -> None:
    """Every object that another refers to is in the file, and before it."""
    seen: set[tuple[str, str]] = set()
    for line in kibana.ndjson().splitlines():
        item = json.loads(line)
        assert {(each["type"], each["id"]) for each in item["references"]} <= seen
        seen.add((item["type"], item["id"]))


def test_a_panel_asks_what_its_query_asks() -> None:
    """What the tests ask the server for is what Kibana's visualization says: the same fields, in the same order."""
    shown = [json.loads(line) for line in kibana.ndjson().splitlines()]
    tables = [json.loads(each["attributes"]["visState"]) for each in shown if each["type"] == "visualization"]
    for panel, table in zip(kibana.PANELS, tables, strict=True):
        fields = [each["params"]["field"] for each in table["aggs"] if each["type"] == "terms"]
        assert tuple(fields) == panel.rows
        asked = kibana.aggregations(panel)
        for number, field in enumerate(panel.rows, 2):
            assert asked[str(number)]["terms"]["field"] == field
            asked = asked[str(number)].get("aggs", {})


def test_a_dry_run_sends_nothing(capsys: Any) -> None:
    """--dry-run prints every request with its body, and needs no server."""
    assert invoke(["setup", "elasticsearch", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for path in ("_ilm/policy/hookline", "_component_template/hookline@mappings", "_index_template/logs-hookline"):
        assert path in printed
    assert "Hookline: overview" in printed
