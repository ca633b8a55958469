# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger and every gauge, for Prometheus, on one loopback address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.config import ConfigError
from pipeline.latency import Latency
from pipeline.ledger import OUTCOMES, Ledger

Statistics = Mapping[str, Mapping[str, int]]
"""Figures by name, of each part by its name."""

Latencies = Mapping[str, Latency]
"""By sink, or by stage."""


class _Ledger(Collector):
    def __init__(
        self,
        ledger: Ledger,
        statistics: Callable[[], Statistics],
        latencies: Callable[[], Latencies],
        stages: Latencies,
    ) -> None:
        self._ledger = ledger
        self._statistics = statistics
        self._latencies = latencies
        self._stages = stages

    def collect(self) -> Iterable[Metric]:
        events = CounterMetricFamily(
            "hookline_events",
            "Events by kind and what became of them at the source.",
            labels=("kind", "stage"),
        )
        sinks = CounterMetricFamily(
            "hookline_sink_events", "Events by kind and sink.", labels=("kind", "sink", "outcome")
        )
        flight = GaugeMetricFamily("hookline_sink_in_flight", "Events on their way to a sink.", labels=("kind", "sink"))
        for kind in self._ledger.kinds.values():
            for stage in (
                "emitted",
                "dropped_ring",
                "filtered",
                "skipped_by_kernel",
                "decoded",
                "malformed",
                "missing",
            ):
                events.add_metric((kind.name, stage), getattr(kind, stage))
            for name, sink in tuple(kind.sinks.items()):
                for outcome in ("offered", "resumed", *OUTCOMES):
                    sinks.add_metric((kind.name, name, outcome), getattr(sink, outcome))
                flight.add_metric((kind.name, name), sink.in_flight())
        parts = GaugeMetricFamily("hookline_part", "Figures of each part.", labels=("part", "figure"))
        for part, figures in self._statistics().items():
            for figure, value in figures.items():
                parts.add_metric((part, figure), value)
        latency = HistogramMetricFamily(
            "hookline_ack_latency_seconds",
            "From the kernel's timestamp of an event to the sink's acknowledgement.",
            labels=("sink",),
        )
        for name, each in self._latencies().items():
            latency.add_metric((name,), each.cumulative(), each.sum_s)
        stages = HistogramMetricFamily(
            "hookline_stage_seconds", "What a stage took for the list that an event was in.", labels=("stage",)
        )
        for name, each in self._stages.items():
            stages.add_metric((name,), each.cumulative(), each.sum_s)
        yield from (events, sinks, flight, parts, latency, stages)


@contextmanager
def serve(
    listen: str,
    ledger: Ledger,
    statistics: Callable[[], Statistics],
    latencies: Callable[[], Latencies],
    stages: Latencies,
) -> Iterator[None]:
    """Serve ``/metrics`` at `listen` (ADDRESS:PORT) from a thread that ends with the block.

    Raises:
        ConfigError: the address cannot be used.
    """
    host, _, port = listen.rpartition(":")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ledger(ledger, statistics, latencies, stages))
    ProcessCollector(registry=registry)
    server: WSGIServer
    thread: threading.Thread
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise ConfigError(
            f'metrics.listen: {listen} cannot be used ({error.strerror}): name another port, or "" to serve no metrics'
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
