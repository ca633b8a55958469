# SPDX-License-Identifier: GPL-2.0-or-later
"""The decode stage: spans of records to events, and gaps to gap events."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable

import trio

from pipeline.batch import count
from pipeline.gap import Gap
from pipeline.latency import Latency
from pipeline.ledger import Ledger
from pipeline.passing import Take
from probes.decoder import Decoder
from probes.errors import RecordError
from probes.event import HostEvent
from probes.kernel.ring import Span
from probes.layout import PREFIX


def boot_offset_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_BOOTTIME; changes when the wall clock is set."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Sequences:
    """The last number of each kind on each CPU, and the gaps before the next one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._gaps = 0
        self.last: dict[int, dict[int, int]] = {kind: {} for kind in ledger.kinds}
        """The last number by kind and CPU; absent: 0."""

    def gap(self, kind: int, cpu: int, sequence: int, time_ns: int) -> Gap | None:
        """Call for a number that does not follow the last one; the gap before it, if it is one."""
        expected = self.last[kind].get(cpu, 0) + 1
        if sequence < expected:
            # Told as missing before, or sent twice: the ledger will not close, and says so.
            return None
        self.last[kind][cpu] = sequence
        if sequence == expected:
            return None
        account = self._ledger.kinds[kind]
        account.missing += sequence - expected
        self._gaps += 1
        self._ledger.kinds[Gap.data_type].emitted += 1
        return Gap(
            flags=0,
            cpu=cpu,
            sequence=self._gaps,
            time_ns=time_ns,
            lost_kind=kind,
            lost_cpu=cpu,
            first=expected,
            last=sequence - 1,
            cause="unknown" if account.malformed else "kernel_ring",
        )

    def final(self, emitted: Iterable[tuple[int, int, int]], time_ns: int) -> list[Gap]:
        """The gaps behind the last event, where the source counted (kind, cpu, emitted)."""
        gaps = [self.gap(kind, cpu, last + 1, time_ns) for kind, cpu, last in emitted]
        return [gap for gap in gaps if gap is not None]


def decode_span(span: Span, decoder: Decoder, sequences: Sequences, ledger: Ledger) -> list[HostEvent]:
    """The events of one span, each gap before the event that shows it. Malformed records are counted."""

    def bad(kind: int) -> None:
        if kind in decoder.by_kind:
            ledger.kinds[kind].malformed += 1
        else:
            ledger.unknown_records += 1

    if decoder.in_c is not None:
        return decoder.in_c.decode(span.data, span.records, sequences.last, sequences.gap, bad)
    data = span.data
    decoders = decoder.by_kind
    last_of = sequences.last
    prefix = PREFIX.unpack_from
    events: list[HostEvent] = []
    append = events.append
    for offset, size in span.records:
        kind = 0
        try:
            length, kind = prefix(data, offset)
            if length != size or size > len(data) - offset:
                raise RecordError("a record says another length than the ring")
            event = decoders[kind](data, offset, size)
        except (KeyError, struct.error, RecordError):
            bad(kind)
            continue
        cpu, sequence, last = event.cpu, event.sequence, last_of[kind]
        if last.get(cpu) == sequence - 1:
            last[cpu] = sequence
        elif (gap := sequences.gap(kind, cpu, sequence, event.time_ns)) is not None:
            append(gap)
        append(event)
    return events


async def decode(
    receive: trio.MemoryReceiveChannel[Span],
    pass_on: Take,
    *,
    decoder: Decoder,
    ledger: Ledger,
    final_counters: Callable[[], Iterable[tuple[int, int, int]]],
    latency: Latency,
) -> None:
    """Decode until the source ends; then the gaps that no later event showed."""
    sequences = Sequences(ledger)
    async with receive:
        async for span in receive:
            began = time.perf_counter()
            events = decode_span(span, decoder, sequences, ledger)
            latency.took(time.perf_counter() - began, len(events))
            if events:
                ledger.decoded(count(events))
                await pass_on(events)
            del events  # the next ones take their memory, which the caches have
        gaps: list[HostEvent] = list(sequences.final(final_counters(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
        if gaps:
            ledger.decoded(count(gaps))
            await pass_on(gaps)
