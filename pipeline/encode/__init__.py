# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as lines of JSON, by code that is generated from their declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.encode.ecs import ecs_encoder
from pipeline.encode.smith import Encode, smith_encoder
from pipeline.enrich.host import Host
from probes.event import HostEvent
from sinks.protocol import Schema

_MAKERS: Mapping[Schema, Callable[..., Encode]] = {"smith": smith_encoder, "ecs": ecs_encoder}


class Encoder:
    """Encodes any event in either schema, with what is the same for the whole host and run."""

    def __init__(self, events: Iterable[type[HostEvent]], *, run_id: str) -> None:
        self._events = tuple(events)
        self._run_id = run_id
        self._by_schema: dict[Schema, Mapping[type[HostEvent], Encode]] = {}

    def set_host(self, host: Host) -> None:
        """Use `host` from now on."""
        self._by_schema = {
            schema: {event: make(event, run_id=self._run_id, host=host) for event in self._events}
            for schema, make in _MAKERS.items()
        }

    def __call__(self, events: Sequence[HostEvent], schema: Schema, boot_offset_ns: int) -> bytes:
        """NDJSON: ASCII, one object a line, every line ended."""
        encoders = self._by_schema[schema]
        lines = [encoders[type(event)](event, boot_offset_ns) for event in events]
        lines.append(b"")
        return b"\n".join(lines)
