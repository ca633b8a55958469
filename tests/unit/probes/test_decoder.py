# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated decoders against records that ctypes laid out."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.decoder import Decoder, decoder
from probes.errors import RecordError
from probes.event import UNKNOWN, ProcessEvent
from probes.fields import Tail
from probes.process.execve import Execve
from tests.unit.probes import wire

DECODERS = Decoder(wire.EVENTS).by_kind


def decode(event: type[ProcessEvent], raw: bytes) -> ProcessEvent:
    return DECODERS[event.data_type](raw, 0, len(raw))


def seen(event: ProcessEvent) -> dict[str, Any]:
    """The values of what the kernel filled."""
    return {name: getattr(event, name) for name in wire.marks(type(event))}


@given(wire.any_record(), st.binary(max_size=24), st.binary(max_size=24))
def test_values_come_back(made: tuple[type[ProcessEvent], dict[str, Any]], before: bytes, after: bytes) -> None:
    """Every field has the value that was put into the record, wherever the record lies in its buffer."""
    event, values = made
    raw = wire.record(event, values)
    decoded = DECODERS[event.data_type](before + raw + after, len(before), len(raw))
    assert type(decoded) is event
    assert seen(decoded) == values


@given(wire.any_record())
def test_enrichments_are_not_known_yet(made: tuple[type[ProcessEvent], dict[str, Any]]) -> None:
    """What no kernel sends has its default."""
    decoded = decode(made[0], wire.record(*made))
    assert (decoded.exe, decoded.exe_md5, decoded.user, decoded.pid_tree) == (b"", UNKNOWN, UNKNOWN, UNKNOWN)


@given(wire.any_record(), st.data())
def test_every_truncation_is_an_error(made: tuple[type[ProcessEvent], dict[str, Any]], data: st.DataObject) -> None:
    """A record that lacks bytes at its end is an error that names the kind, never an event."""
    raw = wire.record(*made)
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    with pytest.raises(RecordError, match=made[0].event_name):
        decode(made[0], cut)


@given(wire.any_record(), st.binary(min_size=1, max_size=16))
def test_surplus_is_an_error(made: tuple[type[ProcessEvent], dict[str, Any]], surplus: bytes) -> None:
    """Bytes that no length accounts for are an error."""
    with pytest.raises(RecordError, match="do not add up"):
        decode(made[0], wire.record(*made) + surplus)


@given(wire.any_record(), st.data())
def test_a_lying_length_shifts_no_field(made: tuple[type[ProcessEvent], dict[str, Any]], data: st.DataObject) -> None:
    """Tail lengths that do not add up are an error; what adds up is exactly the bytes that it names."""
    event, values = made
    if not (tails := wire.tail_names(event)):
        return
    raw = bytearray(wire.record(event, values))
    for name in data.draw(st.sets(st.sampled_from(tails), min_size=1)):
        lie = data.draw(st.one_of(st.integers(0, 90), st.integers(0, 0xFFFF_FFFF)))
        struct.pack_into("<I", raw, wire.member(event, f"{name}_length")[0], lie)
    lengths = [struct.unpack_from("<I", raw, wire.member(event, f"{name}_length")[0])[0] for name in tails]
    if wire.fixed_size(event) + sum(lengths) != len(raw):
        with pytest.raises(RecordError, match="do not add up"):
            decode(event, bytes(raw))
        return
    decoded = decode(event, bytes(raw))
    environment = bytes(raw[len(raw) - lengths[-1] :]) if tails[-1] == wire.ENVIRONMENT else b""
    assert wire.pack(event, {**seen(decoded), wire.ENVIRONMENT: environment}) == raw


@given(wire.any_event(), st.binary(max_size=40), st.integers(-40, 40), st.randoms(use_true_random=False))
def test_arbitrary_bytes_give_an_event_or_an_error(
    event: type[ProcessEvent], piece: bytes, more: int, random: Any
) -> None:
    """Whatever the bytes are, the only exception is RecordError."""
    size = max(0, wire.fixed_size(event) + more)
    raw = (piece + random.randbytes(size))[:size]
    with contextlib.suppress(RecordError):
        decode(event, raw)


@pytest.mark.parametrize("event", [event for event in wire.EVENTS if len(wire.tail_names(event)) > 1])
def test_lengths_do_not_wrap_at_32_bits(event: type[ProcessEvent]) -> None:
    """Two lengths whose sum is right modulo 2**32 are an error."""
    first, second, *_ = wire.tail_names(event)
    raw = bytearray(wire.pack(event, {second: b"four"}))
    struct.pack_into("<I", raw, wire.member(event, f"{first}_length")[0], 0xFFFF_FFFF)
    struct.pack_into("<I", raw, wire.member(event, f"{second}_length")[0], 5)
    with pytest.raises(RecordError, match="do not add up"):
        decode(event, bytes(raw))


STRINGS = st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\0", b"")), max_size=6)


@given(STRINGS, STRINGS, st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")))
def test_variables_are_found_by_their_whole_name(before: list[bytes], after: list[bytes], value: bytes) -> None:
    """A variable is the first string that begins with its name and "="; other strings are no obstacle."""
    decoys = [b"XSSH_CONNECTION=no", b"SSH_CONNECTIONS=no", b"SSH_CONNECTION", b"ssh_connection=no"]
    strings = [*decoys, *before, b"SSH_CONNECTION=" + value, *after, b"SSH_CONNECTION=later"]
    raw = wire.pack(Execve, {wire.ENVIRONMENT: b"".join(each + b"\0" for each in strings)})
    decoded = decode(Execve, raw)
    assert isinstance(decoded, Execve)
    assert decoded.ssh_connection == value
    assert not decoded.ld_preload


@given(st.binary(max_size=60))
def test_any_environment_leaves_the_fields_alone(environment: bytes) -> None:
    """The environment's bytes are no part of any other field."""
    values = {"argv": b"a\0b\0", "filename": b"/bin/a", "stdout": b"/dev/null"}
    decoded = decode(Execve, wire.pack(Execve, {**values, wire.ENVIRONMENT: environment}))
    assert {name: getattr(decoded, name) for name in values} == values


def test_the_longest_tails_fit() -> None:
    """Every tail at its limit at once is decoded whole."""
    values = {
        name: bytes([65 + at]) * mark.limit
        for at, (name, mark) in enumerate(wire.marks(Execve).items())
        if isinstance(mark, Tail)
    }
    decoded = decoder(Execve)(raw := wire.pack(Execve, values), 0, len(raw))
    assert {name: getattr(decoded, name) for name in values} == values
