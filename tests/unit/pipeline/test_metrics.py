# SPDX-License-Identifier: GPL-2.0-or-later
"""The metrics endpoint: the ledger's own figures over HTTP, as long as its block lasts."""

from __future__ import annotations

import errno
import socket
import threading
import urllib.request
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.latency import Latency
from pipeline.ledger import Ledger
from pipeline.metrics import serve
from tests.ports import free_port

Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(listen: str) -> dict[Sample, float]:
    """Every figure, by name and labels."""
    with urllib.request.urlopen(f"http://{listen}/metrics", timeout=20) as answer:
        text = answer.read().decode("utf-8")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labelled(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger([(59, "execve"), (60, "exit")])
    ledger.source(59, emitted=10, dropped=2, filtered=4)
    ledger.decoded({59: 7})
    ledger.kinds[59].malformed, ledger.kinds[59].missing = 1, 3
    ledger.offered("file", {59: 7})
    ledger.delivered("file", {59: 3})
    ledger.dropped_queue("file", {59: 2})
    ledger.dropped_shutdown("file", {59: 1})
    return ledger


def statistics() -> Mapping[str, Mapping[str, int]]:
    return {"hashes": {"entries": 5}, "sink_file": {"queue_batches": 2}}


def latencies() -> Mapping[str, Latency]:
    latency = Latency()
    latency.acknowledged([(0.0015, 3), (0.5, 2), (5000.0, 1)])
    return {"file": latency}


def test_the_ledgers_figures(ledger: Ledger) -> None:
    """Every figure of the ledger and of every part is served, and the process's own."""
    listen = f"127.0.0.1:{free_port()}"
    with serve(listen, ledger, statistics, latencies, {}):
        found = scrape(listen)
    stages = {"emitted": 10, "dropped_ring": 2, "filtered": 4, "decoded": 7, "malformed": 1, "missing": 3}
    for stage, value in stages.items():
        assert found[labelled("hookline_events_total", kind="execve", stage=stage)] == value
        assert found[labelled("hookline_events_total", kind="exit", stage=stage)] == 0
    for outcome, value in {"offered": 7, "delivered": 3, "dropped_queue": 2, "dropped_shutdown": 1}.items():
        sample = labelled("hookline_sink_events_total", kind="execve", sink="file", outcome=outcome)
        assert found[sample] == value
    assert found[labelled("hookline_sink_in_flight", kind="execve", sink="file")] == 1
    assert found[labelled("hookline_part", part="hashes", figure="entries")] == 5
    assert found[labelled("hookline_part", part="sink_file", figure="queue_batches")] == 2
    assert found[labelled("process_resident_memory_bytes")] > 0


def test_latencies(ledger: Ledger) -> None:
    """Each sink's latency is a histogram that counts every event, its buckets cumulative."""
    listen = f"127.0.0.1:{free_port()}"
    with serve(listen, ledger, statistics, latencies, {}):
        found = scrape(listen)
    name = "hookline_ack_latency_seconds"
    buckets = {"0.001": 0, "0.001585": 3, "0.398107": 3, "0.501187": 5, "1000.0": 5, "+Inf": 6}
    assert {le: found[labelled(f"{name}_bucket", sink="file", le=le)] for le in buckets} == buckets
    assert found[labelled(f"{name}_count", sink="file")] == 6
    assert found[labelled(f"{name}_sum", sink="file")] == pytest.approx(5001.0045)


def test_each_look_is_of_now(ledger: Ledger) -> None:
    """What changed since the last look is in the next one."""
    listen = f"127.0.0.1:{free_port()}"
    emitted = labelled("hookline_events_total", kind="execve", stage="emitted")
    with serve(listen, ledger, statistics, latencies, {}):
        assert scrape(listen)[emitted] == 10
        ledger.source(59, emitted=11, dropped=2, filtered=4)
        assert scrape(listen)[emitted] == 11


@pytest.mark.parametrize("raises", [False, True])
def test_the_thread_ends_with_the_block(ledger: Ledger, raises: bool) -> None:
    """However the block is left, its thread is gone and its port is free."""
    before = set(threading.enumerate())
    port = free_port()
    try:
        with serve(f"127.0.0.1:{port}", ledger, statistics, latencies, {}):
            assert set(threading.enumerate()) > before
            if raises:
                raise KeyError
    except KeyError:
        assert raises
    assert set(threading.enumerate()) == before
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_ipv6(ledger: Ledger) -> None:
    """The loopback address of IPv6 is written in brackets."""
    try:
        listen = f"[::1]:{free_port('::1')}"
    except OSError:
        pytest.skip("this host has no IPv6 loopback address")
    with serve(listen, ledger, statistics, latencies, {}):
        assert labelled("hookline_part", part="hashes", figure="entries") in scrape(listen)


def test_an_address_that_is_taken(ledger: Ledger) -> None:
    """An address that another program has is an error that names it, and leaves no thread."""
    before = threading.enumerate()
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Exception, match=listen), serve(listen, ledger, statistics, latencies, {}):
            pass
    assert threading.enumerate() == before
