# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages behind a source, in one nursery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import trio

from pipeline.batch import Batch, Gatherer
from pipeline.config import Config
from pipeline.decode import decode
from pipeline.deliver import Delivery
from pipeline.encode import Encoder
from pipeline.enrich.containers import Containers
from pipeline.enrich.hashes import Hashes, sha256_fields
from pipeline.enrich.host import Host
from pipeline.enrich.process_tree import ProcessTree
from pipeline.enrich.runtimes import Roots
from pipeline.enrich.socket_owners import SocketOwners
from pipeline.enrich.stage import Enrichment, enriching
from pipeline.enrich.users import Users
from pipeline.gap import Gap
from pipeline.latency import Latency
from pipeline.ledger import Ledger
from pipeline.outlets import open_sink
from probes.decoder import Decoder
from probes.event import HostEvent
from probes.kernel.ring import Span
from probes.registry import all_events
from probes.text import Remembered

Source = Callable[[trio.MemorySendChannel[Span]], Awaitable[None]]
"""Sends spans until it has no more, then closes the channel."""

FinalCounters = Callable[[], Iterable[tuple[int, int, int]]]
"""(kind, cpu, events emitted) once the source has ended."""


def new_ledger() -> Ledger:
    """A ledger of every kind that can occur."""
    events: tuple[type[HostEvent], ...] = (*all_events(), Gap)
    return Ledger((event.data_type, event.event_name) for event in events)


class Pipeline:
    """The stages behind a source, and what they share."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        *,
        identity: str,
        host: Host,
        boot_offset: Callable[[], int],
        live: bool,
        watch: Enrichment | None = None,
    ) -> None:
        """`watch`: sees the events once it is known which executables they are of."""
        self._config = config
        Remembered.most = config.pipeline.remembered_texts
        self._watch = watch
        self.ledger = ledger
        self._boot_offset = boot_offset
        self.delivery = Delivery(open_sink, ledger, config.spool)
        without = frozenset() if config.enrich.hashes.sha256 else sha256_fields(all_events())
        self.encoder = Encoder(run_id=identity, without=without)
        self.encoder.set_host(host)
        tree = config.enrich.process_tree
        self.hashes = Hashes(config.enrich.hashes) if config.enrich.hashes.enabled else None
        self.tree = ProcessTree(
            depth=tree.depth,
            max_processes=tree.max_processes,
            ask_proc=live,
            tells_parents=lambda: "ecs" in self.delivery.needs().schemas,  # smith has no name for them
            is_hashed=self.hashes.is_known if self.hashes is not None else lambda _file: False,
        )
        self.users = Users()
        containers = config.enrich.containers
        self._containers = Containers(
            Roots(containers.docker, containers.containerd, containers.storage),
            self.users.home,
            entries=containers.cache_entries,
            wait_s=containers.wait_s,
        )
        self._with_containers = live and containers.enabled
        self.stages = {name: Latency() for name in ("decode", "enrich", "encode")}
        self._socket_owners = SocketOwners(self.tree, self.hashes.md5_of if self.hashes is not None else None)

    def enrichments(self) -> tuple[Enrichment, ...]:
        # The tree first: it knows the path that the hash is taken by, which may wait.
        watch = (self._watch,) if self._watch is not None else ()
        hashes = (self.hashes,) if self.hashes is not None else ()
        containers = (self._containers,) if self._with_containers else ()
        return (self.tree, *watch, *containers, self.users, *hashes, self._socket_owners)

    def statistics(self) -> dict[str, Mapping[str, int]]:
        """Every part's figures, for the metrics."""
        return {
            "process_tree": self.tree.statistics(),
            "users": self.users.statistics(),
            "texts": Remembered.statistics(),
            "containers": self._containers.statistics(),
            **({"hashes": self.hashes.statistics()} if self.hashes is not None else {}),
            "socket_owners": self._socket_owners.statistics(),
            **({"watch": self._watch.statistics()} if self._watch is not None else {}),
            **self.delivery.statistics(),
        }

    async def run(self, source: Source, final_counters: FinalCounters) -> None:
        """All stages until the source ends and the sinks have everything."""
        settings = self._config.pipeline
        spans_in, spans_out = trio.open_memory_channel[Span](settings.queue_batches)
        batches_in, batches_out = trio.open_memory_channel[Batch](settings.queue_batches)
        async with trio.open_nursery() as nursery:
            await nursery.start(self.delivery.run, batches_out, self._config.sinks)
            nursery.start_soon(self._process, spans_out, batches_in, final_counters)
            nursery.start_soon(source, spans_in)

    async def _process(
        self,
        spans: trio.MemoryReceiveChannel[Span],
        batches: trio.MemorySendChannel[Batch],
        final_counters: FinalCounters,
    ) -> None:
        """A span's events are decoded, enriched and encoded in one go, while the processor has them at hand."""
        settings = self._config.pipeline
        async with (
            Gatherer(
                send=batches,
                encode=self.encoder,
                needs=self.delivery.needs,
                boot_offset=self._boot_offset,
                events=settings.batch_events,
                size_bytes=settings.batch_bytes,
                age_s=settings.batch_age_ms / 1000,
                latency=self.stages["encode"],
            ).running() as gather,
            enriching(gather, self.enrichments(), self.stages["enrich"], self.hashes) as enrich,
        ):
            await decode(
                spans,
                enrich,
                decoder=Decoder(all_events()),
                ledger=self.ledger,
                final_counters=final_counters,
                latency=self.stages["decode"],
            )
