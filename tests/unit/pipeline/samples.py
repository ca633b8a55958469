# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as the decoder hands them on, and what goes with them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st

from pipeline.batch import Batch, Needs
from pipeline.encode import Encoder
from pipeline.encode.steps import IS_BUILT
from pipeline.enrich.host import Host
from pipeline.gap import Gap
from probes.declared import parted
from probes.decoder import decoder
from probes.event import HostEvent, ProcessEvent
from probes.process.execve import Execve
from sinks.protocol import Batch as AnyBatch
from sinks.protocol import Schema
from tests.unit.probes import wire

HOST = Host(hostname="box", local_ip="192.0.2.7", boot_id="b00t", machine_id="m", version="6.1.0")
RUN = "0123456789abcdef"
SECOND = 1_000_000_000

_Event = TypeVar("_Event", bound=ProcessEvent)


def made(event: type[_Event], **values: Any) -> _Event:
    """An event with these values, as the decoder makes it of a record; every other is 0 or empty."""
    names = set(event.__struct_fields__) - set(wire.marks(event)) - {wire.ENVIRONMENT}
    enriched = {name: values.pop(name) for name in names & values.keys()}
    for piece, parts in parted(event).items():
        if any(part in values for part in parts):
            enriched[piece] = "\0".join(values.pop(part, "") for part in parts)
    raw = wire.record(event, values)
    decoded = decoder(event)(raw, 0, len(raw))
    assert isinstance(decoded, event)
    for name, value in enriched.items():
        setattr(decoded, name, value)
    return decoded


def numbered(count: int, start: int = 0) -> list[HostEvent]:
    """Executions whose pids count up."""
    return [made(Execve, pid=pid, tgid=pid) for pid in range(start, start + count)]


def pids(batch: AnyBatch) -> list[int]:
    """The pids of `numbered` events, as a consumer reads them."""
    return [int(json.loads(line)["pid"]) for line in batch.encoded("smith").splitlines()]


CONTAINER = parted(ProcessEvent)["container"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)

ENRICHMENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "exe": st.binary(max_size=60),
        "exe_md5": st.sampled_from(["d41d8cd98f00b204e9800998ecf8427e", "-1"]),
        "exe_hash_status": st.sampled_from(["verified", "gone"]),
        "user": st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        "pid_tree": st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
        "container": st.one_of(
            st.just(""), st.lists(TEXTS, min_size=len(CONTAINER), max_size=len(CONTAINER)).map("\0".join)
        ),
    },
)


@st.composite
def process_events(draw: st.DrawFn) -> ProcessEvent:
    """Any event of a probe, enriched or not."""
    event, values = draw(wire.any_record())
    return made(event, **values, **draw(ENRICHMENTS))


NUMBERS = st.integers(0, (1 << 64) - 1)


def gaps() -> st.SearchStrategy[Gap]:
    """Any gap."""
    causes = st.sampled_from(["kernel_ring", "unknown"])
    names = ("sequence", "time_ns", "lost_kind", "lost_cpu", "first", "last", "cpu")
    numbers = dict.fromkeys(names, NUMBERS)
    return st.builds(Gap, flags=st.just(0), cause=causes, **numbers)


def host_events() -> st.SearchStrategy[HostEvent]:
    """Any event."""
    return st.one_of(process_events(), gaps())


@cache
def encoder(host: Host = HOST, in_c: bool = IS_BUILT) -> Encoder:
    """The encoder of all kinds."""
    encoder = Encoder(run_id=RUN, in_c=in_c)
    encoder.set_host(host)
    return encoder


def lines(events: list[HostEvent], schema: Schema, *, host: Host = HOST, boot_offset: int = 0) -> list[bytes]:
    """The encoded events, a line each without its end; the same from C and from Python."""
    encoded = encoder(host, in_c=False)(events, schema, boot_offset)
    if IS_BUILT:
        assert encoder(host, in_c=True)(events, schema, boot_offset) == encoded
    assert encoded.isascii()
    assert encoded.endswith(b"\n") or not events
    return encoded.split(b"\n")[:-1]


def batch_of(*events: HostEvent) -> Batch:
    """A batch as the stage before the sinks makes it, for any sink."""
    batch = Batch(Needs(frozenset({"smith", "ecs"}), events=True), 0)
    batch.add(list(events), encoder())
    return batch
