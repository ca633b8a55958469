# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as lines of JSON, by code that is generated from their declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from pipeline.encode.document import Encode
from pipeline.encode.ecs import ecs_encoder
from pipeline.encode.smith import smith_encoder
from pipeline.enrich.host import Host
from probes.event import HostEvent
from sinks.protocol import Schema

_MAKERS: Mapping[Schema, Callable[..., Encode]] = {"smith": smith_encoder, "ecs": ecs_encoder}


class Encoder:
    """Encodes any event in either schema, with what is the same for the whole host and run."""

    def __init__(
        self, events: Iterable[type[HostEvent]], *, run_id: str, without: frozenset[str] = frozenset()
    ) -> None:
        """`without`: the names of fields that are not told."""
        self._events = tuple(events)
        self._run_id = run_id
        self._without = without
        self._encoders: dict[tuple[Schema, type[HostEvent]], Encode] = {}
        """Made when the first event of a kind comes."""
        self._boot_offset = 0

    def set_host(self, host: Host) -> None:
        """Use `host` from now on."""
        self._host = host
        self._encoders.clear()

    def __call__(self, events: Sequence[HostEvent], schema: Schema, boot_offset_ns: int) -> bytes:
        """NDJSON: ASCII, one object a line, every line ended."""
        if boot_offset_ns != self._boot_offset:
            self._boot_offset = boot_offset_ns
            self._encoders.clear()
        lines: list[bytes] = []
        kinds = set(map(type, events))
        if len(kinds) == 1:
            lines = self._encoder(schema, kinds.pop())(events)
        else:
            for kind, some in groupby(events, type):
                lines += self._encoder(schema, kind)(list(some))
        lines.append(b"")
        return b"\n".join(lines)

    def _encoder(self, schema: Schema, event: type[HostEvent]) -> Encode:
        encode = self._encoders.get((schema, event))
        if encode is None:
            make = _MAKERS[schema]
            encode = make(
                event,
                run_id=self._run_id,
                host=self._host,
                boot_offset=self._boot_offset,
                without=self._without,
            )
            self._encoders[schema, event] = encode
        return encode
