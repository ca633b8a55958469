# SPDX-License-Identifier: GPL-2.0-or-later
"""Events as lines of JSON, by code that is generated from their declarations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import Any

from pipeline.encode.document import Document
from pipeline.encode.document import Encode as Encode
from pipeline.encode.ecs import ecs_document
from pipeline.encode.smith import smith_document
from pipeline.encode.steps import IS_BUILT, encode, writer
from pipeline.enrich.host import Host
from probes.event import HostEvent
from sinks.protocol import Schema

_DOCUMENTS: Mapping[Schema, Callable[..., Document]] = {"smith": smith_document, "ecs": ecs_document}


class _ByKind(dict[type[HostEvent], Any]):
    """What encodes each kind; made when the first event of it comes."""

    def __init__(self, make: Callable[[type[HostEvent]], Any]) -> None:
        self._make = make

    def __missing__(self, event: type[HostEvent]) -> Any:
        made = self[event] = self._make(event)
        return made


class Encoder:
    """Encodes any event in either schema, with what is the same for the whole host and run."""

    def __init__(self, *, run_id: str, without: frozenset[str] = frozenset(), in_c: bool = IS_BUILT) -> None:
        """`without`: the names of fields that are not told; `in_c`: whether to use the encoders in C."""
        self._run_id = run_id
        self._without = without
        self._in_c = in_c
        self._encoders: dict[Schema, _ByKind] = {}
        self._boot_offset = 0

    def set_host(self, host: Host) -> None:
        """Use `host` from now on."""
        self._host = host
        self._encoders.clear()

    def __call__(self, events: list[HostEvent], schema: Schema, boot_offset_ns: int) -> bytes:
        """NDJSON: ASCII, one object a line, every line ended."""
        if boot_offset_ns != self._boot_offset:
            self._boot_offset = boot_offset_ns
            self._encoders.clear()
        encoders = self._encoders.get(schema)
        if encoders is None:
            encoders = self._encoders[schema] = _ByKind(partial(self._encoder, schema))
        if self._in_c:
            return encode(events, encoders)
        lines: list[bytes] = []
        for kind, some in groupby(events, type):
            lines += encoders[kind](list(some))
        lines.append(b"")
        return b"\n".join(lines)

    def _encoder(self, schema: Schema, event: type[HostEvent]) -> object:
        document = _DOCUMENTS[schema](
            event,
            run_id=self._run_id,
            host=self._host,
            boot_offset=self._boot_offset,
            without=self._without,
        )
        return writer(document, event) if self._in_c else document.function()
