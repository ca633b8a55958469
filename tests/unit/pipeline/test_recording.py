# SPDX-License-Identifier: GPL-2.0-or-later
"""Recordings: what is written is read, and nothing else is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import struct
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import recording as module
from pipeline.enrich.host import Host
from pipeline.recording import KindCounters, Recorder, open_recording
from probes.errors import RecordingError
from probes.kernel.loader import Counters
from probes.kernel.ring import Span
from probes.layout import fingerprint
from probes.registry import all_events

HOST = Host(hostname="h", local_ip="192.0.2.7", boot_id="b", machine_id="m", version="6.1.0")
COUNTERS: list[KindCounters] = [(59, 0, Counters(2, 0, 1)), (59, 1, Counters(1 << 63, 5, 0))]
SPANS = [
    Span(b"HEADER__recordAAHEADER__recordBBB...", [(8, 8), (24, 9)]),
    Span(b"", []),
    Span(bytes(range(256)) * 8, [(0, 8), (8, 2040)]),
]


def make(path: Path, spans: list[Span] = SPANS, *, finish: bool = True) -> Path:
    path.unlink(missing_ok=True)
    with Recorder(path, run_id="r", boot_offset_ns=-3, host=HOST) as recorder:
        for span in spans:
            recorder.write(span)
        if finish:
            recorder.finish(COUNTERS)
    return path


def read(path: Path) -> list[Span]:
    with open_recording(path) as recording:
        return list(recording.spans())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.hookline"


def test_round_trip(path: Path) -> None:
    """Spans, the identity of the run and the kernel's counters come back as they were, as often as asked."""
    with open_recording(make(path)) as recording:
        assert list(recording.spans()) == SPANS
        assert list(recording.spans()) == SPANS
        assert recording.counters == COUNTERS
        header = recording.header
    assert (header.run_id, header.boot_offset_ns, header.host) == ("r", -3, HOST)
    assert header.fingerprint == fingerprint(all_events())
    assert header.kernel == os.uname().release


@given(
    st.lists(
        st.lists(st.binary(min_size=8, max_size=40), max_size=5).map(
            lambda records: Span(
                b"".join(records),
                [(sum(map(len, records[:at])), len(record)) for at, record in enumerate(records)],
            )
        ),
        max_size=4,
    )
)
def test_any_records_come_back(tmp_path_factory: pytest.TempPathFactory, spans: list[Span]) -> None:
    """Whatever bytes the records hold, they come back."""
    assert read(make(tmp_path_factory.getbasetemp() / "any", spans)) == spans


def test_mode_is_0600(path: Path) -> None:
    """Others cannot read a recording, whatever the umask: records hold environments."""
    before = os.umask(0)
    try:
        make(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_overwritten(path: Path) -> None:
    """A file that exists, and a link that leads somewhere, stay as they are."""
    path.write_text("precious")
    link = path.with_name("link")
    link.symlink_to(path.with_name("elsewhere"))
    for taken in (path, link):
        with pytest.raises(RecordingError, match="exists: remove it or choose another"):
            Recorder(taken, run_id="", boot_offset_ns=0, host=HOST)
    assert path.read_text() == "precious"
    assert not link.exists()


def test_the_first_line_is_for_people(path: Path) -> None:
    """`head -1` of a recording is JSON that says what it is."""
    line = make(path).read_bytes().split(b"\n")[0]
    assert json.loads(line)["hookline_recording"] == 1


def test_an_unfinished_recording_is_refused(path: Path) -> None:
    """A recorder that was killed leaves a file that is refused, with the number of whole spans."""
    make(path, finish=False)
    with pytest.raises(RecordingError, match="ends after 3 whole spans without an end mark"):
        open_recording(path)


def test_every_truncation_is_refused(path: Path) -> None:
    """Wherever the file is cut, it is refused before any event of it is delivered."""
    whole = make(path).read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordingError):
            open_recording(path)


def test_what_follows_the_end_is_refused(path: Path) -> None:
    """Bytes after the end mark, as two files joined have, are not ignored."""
    path.write_bytes(make(path).read_bytes() + b"x")
    with pytest.raises(RecordingError, match="damaged"):
        open_recording(path)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    """Each single byte that is changed makes the recording refused, at its opening or at the span."""
    whole = make(path).read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with pytest.raises(RecordingError):
            read(path)


@given(st.data())
def test_mutations_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """However a recording is mangled, it is read or refused."""
    path = tmp_path_factory.getbasetemp() / "mangled"
    raw = bytearray(make(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        upto = data.draw(st.integers(at, min(at + 12, len(raw))))
        raw[at:upto] = data.draw(st.binary(max_size=12))
    path.write_bytes(raw)
    with contextlib.suppress(RecordingError):
        read(path)


@given(st.binary(max_size=300))
def test_other_files_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    """Bytes that no recorder wrote are no recording."""
    path = tmp_path_factory.getbasetemp() / "other"
    path.write_bytes(raw)
    with pytest.raises(RecordingError, match="is not a recording of Hookline"):
        open_recording(path)


def test_deep_json_is_refused(path: Path) -> None:
    """A first line that is nested without end is refused as any other."""
    path.write_bytes(b'{"x":' + b"[" * 30_000)
    with pytest.raises(RecordingError, match="is not a recording"):
        open_recording(path)


def test_another_schema_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of another schema are not decoded with this one's offsets; the sentence says what to do."""
    make(path)
    monkeypatch.setattr(module, "fingerprint", lambda _events: "0123456789abcdef")
    with pytest.raises(RecordingError, match=r"another schema .*here 0123456789abcdef.*the Hookline that did"):
        open_recording(path)


def test_another_version_is_refused(path: Path) -> None:
    """A later format is told from no recording at all."""
    path.write_bytes(b'{"hookline_recording": 2, "new": true}\n')
    with pytest.raises(RecordingError, match=r"has version 2: this Hookline reads 1$"):
        open_recording(path)


@pytest.mark.parametrize("record", [(0, 9), (1, 8), (0xFFFF_FFFF, 0xFFFF_FFFF), (0, 7)])
def test_forged_records_stay_inside_their_span(path: Path, record: tuple[int, int]) -> None:
    """A record that points out of its span, or is shorter than any record, is refused."""
    make(path, [Span(b"8 bytes!", [record])])
    with pytest.raises(RecordingError, match="points out of its span"):
        read(path)


def test_a_huge_length_is_not_believed(path: Path) -> None:
    """A frame that claims more than the file holds makes nobody allocate that much."""
    make(path, [])
    line = path.read_bytes().split(b"\n")[0] + b"\n"
    for length, count in ((0xFFFF_FFFF, 0), (200 << 20, 0), (16, 0xFFFF_FFFF)):
        frame = struct.pack("<4sIII", b"SPAN", length, count, zlib.crc32(b""))
        path.write_bytes(line + frame + bytes(64))
        with pytest.raises(RecordingError, match=r"damaged|end mark"):
            open_recording(path)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A folder, a FIFO that nobody writes to, an absent file: each is told at once."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, reason in (
        (tmp_path, "Is a directory"),
        (fifo, "not a regular file"),
        (tmp_path / "no", "No such"),
    ):
        with pytest.raises(RecordingError, match=reason):
            open_recording(path)


def test_a_file_that_shrinks_is_noticed(path: Path) -> None:
    """A recording that is cut while it is replayed ends with an error, not as if it were over."""
    make(path, [Span(bytes(1 << 20), [(0, 1 << 20)])] * 2)
    with open_recording(path) as recording:
        spans = recording.spans()
        next(spans)
        os.truncate(path, 1 << 20)
        with pytest.raises(RecordingError, match="became shorter"):
            next(spans)


def test_counters_survive_json() -> None:
    """64-bit counters come back to the last digit."""
    encoded = msgspec.json.encode(COUNTERS)
    assert msgspec.json.decode(encoded, type=list[KindCounters]) == COUNTERS


def test_a_full_disk_is_told_with_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of a full disk names the recording, and how much was told before, also at the closing."""
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda _path, _flags, _mode: real_open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match="after 0 spans with 0 records") as caught:
        make(path, [], finish=False)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
