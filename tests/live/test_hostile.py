# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes that could break a line, a quote, a column or a parser, in every place that a stranger fills."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.deep import place
from tests.live.views import CREATE_FILE, EXECVE, arguments_match, caused_by, kind_of, process_of, raw, truncated, value

HOSTILE = (
    b"new\nline\r\t\"quotes\" 'of' `sorts` \\back\\\\ %s %d {} \x01\x0b\x0c\x17\x1c\x1d\x1e\x1f\x7f"
    b"\xff\xfe\x80\xc0\x80 \xed\xa0\x80 \xe2\x80\xa8\xe2\x80\xa9\xc2\x85 \xee\xbe\x80\xee\xbf\xbf\xee\xbd\xbf"
    b' \xe2\x82\xac \xf0\x9f\x98\x80 \xf0\x9f\x98 <b>&amp;</b> ,":{}[]'
)
"""Line ends of ASCII and Unicode, controls, broken UTF-8, the private code points that stand for bytes."""

NAME = HOSTILE.replace(b"/", b"|")


@pytest.fixture(scope="module", params=["smith", "ecs"])
def collector(
    tracefs: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Collector]:
    """A collector for each schema."""
    with Collector(tmp_path_factory.mktemp("collector"), schema=request.param) as running:
        yield running
        running.stop().check()


Caused = Callable[..., Event]


@pytest.fixture
def execution(collector: Collector) -> Caused:
    """Run a command; gives its last execution's event."""

    def execute(*command: bytes, code: int = 0, **options: object) -> Event:
        with subprocess.Popen(command, **options) as process:  # type: ignore[call-overload]
            assert process.wait() == code
        return of(collector, process.pid, EXECVE)[-1]

    return execute


def of(collector: Collector, pid: int, kind: int) -> list[Event]:
    """The events of that kind that the process caused."""
    return list(caused_by(collector.sync(), pid, kind))


def test_arguments(programs: Programs, execution: Caused) -> None:
    """Hostile arguments, empty ones and trailing empty ones come back byte for byte, with their boundaries."""
    nop = os.fsencode(programs("nop"))
    every_byte = [bytes([byte]) for byte in range(1, 256)]
    for arguments in (
        [nop, HOSTILE, b"", b" ", b"", HOSTILE[::-1], b"\n", b"", b""],
        [nop, *every_byte],
        [nop, b"".join(every_byte)],
        [nop, b""],
        [nop, b"", b"", b""],
    ):
        event = execution(*arguments)
        assert arguments_match(event, arguments), arguments
        assert not truncated(event)


def test_no_arguments_at_all(programs: Programs, execution: Caused) -> None:
    """A program whose only argument, its own name, is empty is told so."""
    nop = os.fsencode(programs("nop"))
    event = execution(b"", executable=nop)
    assert arguments_match(event, [b""])
    assert raw(event, "exe") == nop


def test_random_arguments(programs: Programs, collector: Collector) -> None:
    """300 lists of random bytes, half of them near those of the escapes' own encoding, come back as they were."""
    rolls = random.Random(59)
    nop = os.fsencode(programs("nop"))
    near = [0xEE, 0xBD, 0xBE, 0xBF, 0x80, 0x8F, 0xED, 0xA0, 0xE2, 0xF0, 0x41, 0x0A]
    sent: dict[int, list[bytes]] = {}
    for number in range(300):
        pool = near if number % 2 else range(1, 256)
        arguments = [bytes(rolls.choices(pool, k=rolls.randrange(40))) for _ in range(rolls.randrange(8))]
        with subprocess.Popen([nop, *arguments]) as process:
            assert process.wait() == 0
        sent[process.pid] = [nop, *arguments]
    collector.sync()
    for pid, arguments in sent.items():
        [event] = caused_by(collector.events, pid, EXECVE)
        assert arguments_match(event, arguments)


@pytest.mark.parametrize("arguments", [[b"\xe2\x82\xac" * 33_334], [HOSTILE] * 600], ids=["one", "many"])
def test_a_hundred_kilobytes_of_arguments(arguments: list[bytes], programs: Programs, execution: Caused) -> None:
    """Of 100 kB of arguments the first 32 KiB are kept, to the byte, and the event says that they were cut."""
    nop = os.fsencode(programs("nop"))
    event = execution(nop, *arguments)
    kept = b"".join(each + b"\0" for each in [nop, *arguments])[:32_768]
    assert truncated(event) == {"argv"}
    if "event_id" in event:
        assert raw(event, "argv") == kept.replace(b"\0", b" ")
    else:
        assert arguments_match(event, kept.split(b"\0"))


def test_names(programs: Programs, execution: Caused, collector: Collector, tmp_path: Path) -> None:
    """A hostile name comes back whole in exe, filename, argv, comm, stdin, cwd, the tree and a new file's path."""
    folder = os.path.join(os.fsencode(tmp_path), NAME)
    os.mkdir(folder)
    path = os.path.join(folder, NAME)
    here = os.open(folder, os.O_RDONLY)
    try:
        place(programs("nop"), here, NAME)
    finally:
        os.close(here)
    with open(path, "rb") as file:
        event = execution(path, stdin=file, stdout=file, cwd=folder)
    for name in ("exe", "filename", "stdin", "stdout"):
        assert raw(event, name) == path, name
    assert raw(event, "run_path") == folder
    assert raw(event, "comm") == NAME[:15]
    assert (raw(event, "pid_tree") or b"").endswith(b"->%d(%s)" % (process_of(event)[0], NAME[:15]))
    assert arguments_match(event, [path])
    assert len(value(event, "exe_md5")) == 32
    created = [raw(made, "file_path") for made in of(collector, os.getpid(), CREATE_FILE)]
    assert created[-1] == path


def test_a_failure(execution: Caused, collector: Collector, tmp_path: Path) -> None:
    """What a failed execution asked for comes back byte for byte."""
    path = os.path.join(os.fsencode(tmp_path), NAME)
    arguments = [path, HOSTILE, b"", b"end", b""]
    with pytest.raises(FileNotFoundError):
        subprocess.run(arguments, check=True)
    [event] = [each for each in collector.sync() if value_or_none(each, "filename") == path]
    assert arguments_match(event, arguments)
    assert (int(value(event, "res")), truncated(event)) == (-2, set())


def value_or_none(event: Event, name: str) -> bytes | None:
    return raw(event, name) if kind_of(event) == EXECVE else None


def test_environment(programs: Programs, execution: Caused) -> None:
    """Hostile values of the wanted variables come back; a variable whose name only begins so is not taken."""
    nop = os.fsencode(programs("nop"))
    event = execution(
        nop,
        env={
            b"SSH_CONNECTION_": b"no",
            b"XSSH_CONNECTION": b"no",
            b"LD_PRELOADED": b"no",
            b"SSH_CONNECTION": HOSTILE,
            b"LD_PRELOAD": HOSTILE[::-1],
        },
    )
    assert (raw(event, "SSH_CONNECTION"), raw(event, "LD_PRELOAD")) == (HOSTILE, HOSTILE[::-1])
    assert not truncated(event)


def test_no_environment(programs: Programs, execution: Caused) -> None:
    """Without the variables, and without any environment, they are unknown; an empty one is not invented."""
    nop = os.fsencode(programs("nop"))
    for environment in ({}, {b"A": b"b"}, {b"LD_PRELOAD": b""}):
        event = execution(nop, env=environment)
        assert (raw(event, "SSH_CONNECTION"), raw(event, "LD_PRELOAD") or b"") == (None, b"")
        assert not truncated(event)


@pytest.mark.parametrize(
    ("before", "complete"),
    [({b"A%d" % number: b"x" * 100 for number in range(200)}, True), ({b"A": b"x" * 100_000}, True)],
    ids=["many", "long"],
)
def test_a_long_environment(before: dict[bytes, bytes], complete: bool, programs: Programs, execution: Caused) -> None:
    """Behind 200 other variables, or behind one of 100 kB, the wanted one is found."""
    event = execution(os.fsencode(programs("nop")), env={**before, b"LD_PRELOAD": b"/x.so"})
    assert (raw(event, "LD_PRELOAD"), truncated(event)) == (b"/x.so", set())


@pytest.mark.parametrize("size", [490, 499, 500, 501, 600, 130_000])
def test_a_long_value(size: int, programs: Programs, execution: Caused) -> None:
    """A wanted value that is too long is told by its beginning, and as cut; one that is whole is not called cut."""
    preload = (b"/tmp/\xff\n" * size)[:size]
    event = execution(os.fsencode(programs("nop")), env={b"LD_PRELOAD": preload})
    kept = raw(event, "LD_PRELOAD") or b""
    assert preload.startswith(kept)
    assert len(kept) >= min(size, 490)
    assert truncated(event) == ({"environment"} if len(kept) < size else set())


def test_an_endless_environment(programs: Programs, execution: Caused) -> None:
    """Where an environment is too long to be searched, the event says so."""
    many = {b"A%d" % number: b"x" for number in range(20_000)}
    event = execution(os.fsencode(programs("nop")), env={**many, b"LD_PRELOAD": b"/x.so"})
    assert truncated(event) == {"environment"}
