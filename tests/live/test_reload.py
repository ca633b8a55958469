# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGHUP: another configuration while events keep coming."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.accounts import Outcome
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.loads import load
from tests.live.tools import Tables, until

REFUSED = "the new configuration is refused"


@pytest.fixture
def loaded(programs: Programs, tmp_path: Path, tracefs: Path) -> Iterator[Collector]:
    """A collector under load."""
    with Collector(tmp_path, {"collector": {"ring_bytes": 1 << 26}}) as collector, load(programs, tmp_path):
        collector.sync()
        yield collector


def lines(path: Path) -> list[Event]:
    """What a sink wrote."""
    events: list[Any] = [json.loads(line) for line in path.read_bytes().splitlines()]
    return events


def extra(path: Path, **keys: object) -> dict[str, dict[str, object]]:
    """A second file sink."""
    return {"sinks.extra": {"type": "file", "path": str(path), "when_full": "block", **keys}}


def nothing_lost(outcome: Outcome) -> None:
    """Every number of every kind is in the file that was there all the time; nothing was dropped anywhere."""
    for name, kind in outcome.ledger["kinds"].items():
        assert kind["dropped_ring"] == 0, (name, kind)
        for account in kind["sinks"].values():
            assert account["offered"] == account["delivered"], (name, kind)
    outcome.check()


def test_a_sink_comes_and_goes(loaded: Collector, tmp_path: Path) -> None:
    """A sink that a reload adds gets what comes from then on; the one that stays loses nothing."""
    path = tmp_path / "extra.ndjson"
    loaded.reload(extra(path))
    until(lambda: path.exists() and path.stat().st_size > 100_000, "events in the new sink")
    loaded.reload({})
    size = path.stat().st_size
    loaded.sync()
    assert path.stat().st_size == size
    outcome = loaded.stop()
    nothing_lost(outcome)
    ids = [event["event_id"] for event in lines(path)]
    known = [event["event_id"] for event in outcome.events]
    first = known.index(ids[0])
    assert known[first : first + len(ids)] == ids
    assert sum(kind["sinks"].get("extra", {"delivered": 0})["delivered"] for kind in all_kinds(outcome)) == len(ids)


def all_kinds(outcome: Outcome) -> list[dict[str, Any]]:
    return list(outcome.ledger["kinds"].values())


def test_a_sink_changes(loaded: Collector) -> None:
    """A sink whose schema a reload changes, under load and back again, gets every event in one or the other."""
    for schema in ("ecs", "smith", "ecs"):
        loaded.reload({"sinks.file": {"schema": schema}})
        loaded.sync()
    outcome = loaded.stop()
    assert sum("event_id" in event for event in outcome.events) > 0
    assert sum("@timestamp" in event for event in outcome.events) > 0
    nothing_lost(outcome)


def test_another_path(loaded: Collector, tmp_path: Path) -> None:
    """A sink that gets another path goes on there, with the very next event."""
    path = tmp_path / "elsewhere.ndjson"
    loaded.reload({"sinks.file": {"path": str(path)}})
    until(lambda: path.exists() and path.stat().st_size > 100_000, "events at the new path")
    outcome = loaded.stop()
    outcome.events += lines(path)
    nothing_lost(outcome)


def test_logrotate(loaded: Collector, tmp_path: Path) -> None:
    """After a rename and SIGHUP the lines go into a new file at the old path; old and new together are all."""
    rotated = []
    for number in range(3):
        moved = tmp_path / f"events.{number}"
        before = loaded.output.stat().st_ino
        loaded.output.rename(moved)
        rotated.append(moved)
        loaded.reload({})
        until(loaded.output.exists, "a new file")
        assert loaded.output.stat().st_ino != before
        until(lambda: loaded.output.stat().st_size > 100_000, "events in the new file")
    loaded.forget()
    outcome = loaded.stop()
    outcome.events = [event for path in (*rotated, loaded.output) for event in lines(path)]
    nothing_lost(outcome)


def test_what_waits_for_the_next_start(loaded: Collector) -> None:
    """A reload names the tables that changed and have no effect yet, and none where there are none."""
    same: Tables = {"collector": {"ring_bytes": 1 << 26}}
    other: Tables = {"collector": {"ring_bytes": 1 << 20}, "log": {"level": "debug"}}
    said = []
    for tables in (same, other, same):
        loaded.reload(tables)
        said.append(loaded.log()[-1])
    assert [line.get("for_the_next_start") for line in said] == [None, ["collector", "log"], None]
    nothing_lost(loaded.stop())


def test_filters_change(loaded: Collector, programs: Programs) -> None:
    """Filters of a reload hold at once, for every kind; without them events come again, and no number is missing."""
    nop = str(programs("nop"))
    loaded.reload({"filters": {"exe": [nop, str(programs("churn"))], "loopback": True}})
    before = len(loaded.sync())
    told = {event.get("exe") for event in loaded.sync()[before:]}
    assert told.isdisjoint({nop, str(programs("churn")), str(programs("connect"))})
    loaded.reload({})
    before = len(loaded.sync())

    def all_again() -> bool:
        told = {(event["data_type"], event.get("exe")) for event in loaded.sync()[before:]}
        wanted = {("59", nop), ("602", str(programs("churn"))), ("42", str(programs("connect")))}
        return wanted <= told

    until(all_again, "everything is told again")
    outcome = loaded.stop()
    for name in ("execve", "create_file", "connect"):
        assert outcome.kind(name)["filtered"] > 0
    nothing_lost(outcome)


BROKEN = {
    "no TOML": "[sinks.file\n",
    "an unknown key": '[filters]\nexes = ["/bin/true"]\n',
    "a wrong type": '[filters]\nuid = "root"\n',
    "an unknown table": "[filter]\nuid = [0]\n",
    "an unknown sink": '[sinks.file]\ntype = "flie"\n',
}


def test_a_broken_file(loaded: Collector) -> None:
    """A broken configuration is refused with its name in the log, the old one stays, and nothing is lost."""
    for number, content in enumerate(BROKEN.values(), 1):
        loaded.config.write_text(content)
        loaded.send(signal.SIGHUP)
        refused = loaded.wait_for_log(REFUSED, number)[-1]
        assert str(loaded.config) in refused["reason"]
        assert refused["level"] == "error"
        loaded.sync()
    loaded.config.unlink()
    loaded.send(signal.SIGHUP)
    assert "No such file" in loaded.wait_for_log(REFUSED, len(BROKEN) + 1)[-1]["reason"]
    loaded.reload({"filters": {"loopback": True}})
    outcome = loaded.stop()
    assert outcome.kind("connect")["filtered"] > 0
    nothing_lost(outcome)


def test_a_sink_that_cannot_be_opened(loaded: Collector, tmp_path: Path) -> None:
    """A new sink that cannot be opened is refused with its remedy; the others, and the filters, stay as they were."""
    bad = extra(tmp_path / "absent" / "events.ndjson")
    loaded.reload({**bad, "filters": {"loopback": True}}, says=REFUSED)
    [line] = loaded.wait_for_log(REFUSED)
    assert "mkdir -p" in line["reason"]
    before = len(loaded.sync())
    until(lambda: any(each["data_type"] == "42" for each in loaded.sync()[before:]), "connections")
    nothing_lost(loaded.stop())


def test_a_changed_sink_that_cannot_be_opened(loaded: Collector, tmp_path: Path) -> None:
    """A sink whose new path cannot be opened goes on at the old one, and loses nothing."""
    loaded.reload({"sinks.file": {"path": str(tmp_path / "absent" / "events.ndjson")}}, says=REFUSED)
    loaded.sync()
    nothing_lost(loaded.stop())


def test_many_at_once(loaded: Collector) -> None:
    """Many signals in a row, and SIGTERM among them, do no harm."""
    for _ in range(20):
        loaded.send(signal.SIGHUP)
    loaded.sync()
    for _ in range(5):
        loaded.send(signal.SIGHUP)
    nothing_lost(loaded.stop())
