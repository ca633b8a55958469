# SPDX-License-Identifier: GPL-2.0-or-later
"""MD5 of executables: of the very file that ran, or a word that says why not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from probes.event import UNKNOWN
from probes.identity import FileId
from probes.privilege.load_module import LoadModule
from probes.process.exit import Exit
from tests.unit.pipeline.files import NOBODY, executable, identity, md5, new_hashes, run_of, told
from tests.unit.pipeline.samples import made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return executable(tmp_path / "program")


@given(st.binary(max_size=5000))
async def test_the_digest_is_the_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """The first event of a file has the MD5 of its bytes, whatever they are."""
    path = executable(tmp_path_factory.getbasetemp() / "any-program", content)
    assert await told(new_hashes(), run_of(path)) == [(md5(content), "verified")]


async def test_a_living_process_needs_no_path(path: Path) -> None:
    """The executable of a process that runs is found through it, when its path is not known or wrong."""
    own = Path("/proc/self/exe")
    event = made(Exit, tgid=os.getpid(), exe_file=identity(own))
    assert await told(new_hashes(), event) == [(md5(own.read_bytes()), "verified")]
    misled = run_of(own, tgid=os.getpid(), named=path)
    assert await told(new_hashes(), misled) == [(md5(own.read_bytes()), "verified")]


async def test_another_file_at_the_path(path: Path) -> None:
    """A file that has taken the place of the one that ran is not hashed in its name."""
    event = run_of(path)
    executable(path.with_name("new"), b"evil").rename(path)
    assert await told(new_hashes(), event) == [(UNKNOWN, "changed")]


async def test_a_rewritten_file(path: Path) -> None:
    """A file that was written to since is another, though it has the same size, inode and mtime."""
    event, status = run_of(path), path.stat()
    executable(path, path.read_bytes()[::-1])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    _let_ctime_pass(path, status.st_ctime_ns)
    assert await told(new_hashes(), event) == [(UNKNOWN, "changed")]


def _let_ctime_pass(path: Path, before_ns: int) -> None:
    """Touch the inode until its change time differs: the kernel's clock for it ticks in milliseconds."""
    while path.stat().st_ctime_ns == before_ns:
        path.chmod(0o700)


@pytest.mark.parametrize("content", [b"#!/bin/evil\n", b""], ids=["rewritten", "emptied"])
async def test_a_file_that_changes_while_it_is_read(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written to between its opening and its last byte has no digest: it would be nobody's."""
    event, real_read = run_of(path), os.read

    def read(fd: int, size: int) -> bytes:
        before_ns = path.stat().st_ctime_ns
        executable(path, content)
        _let_ctime_pass(path, before_ns)
        return real_read(fd, size)

    monkeypatch.setattr(os, "read", read)
    assert await told(new_hashes(), event) == [(UNKNOWN, "changed")]


async def test_a_copy_is_not_the_file(path: Path) -> None:
    """A copy with the same bytes is not the file that ran."""
    event = run_of(path)
    shutil.copy2(path, path.with_name("copy"))
    event.exe = os.fsencode(path.with_name("copy"))
    assert await told(new_hashes(), event) == [(UNKNOWN, "changed")]


async def test_too_big(path: Path) -> None:
    """A file above the limit is not read; one of exactly the limit is."""
    size = path.stat().st_size
    assert await told(new_hashes(max_bytes=size), run_of(path)) == [(md5(path.read_bytes()), "verified")]
    assert await told(new_hashes(max_bytes=size - 1), run_of(path)) == [(UNKNOWN, "too_big")]


async def test_gone(path: Path) -> None:
    """A file that nobody can reach any more is gone."""
    event = run_of(path)
    path.unlink()
    assert await told(new_hashes(), event) == [(UNKNOWN, "gone")]


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user who may read nothing here; root reads everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_denied(path: Path) -> None:
    """A file that the collector may not read is told as denied, not as gone."""
    event = run_of(path)
    path.chmod(0)
    event.exe_file = identity(path)
    with unprivileged():
        assert await told(new_hashes(), event) == [(UNKNOWN, "denied")]


async def test_a_fifo_does_not_block(path: Path) -> None:
    """A FIFO that nobody writes to, in the place of the file, holds up nothing."""
    event = run_of(path)
    path.unlink()
    os.mkfifo(path)
    with trio.fail_after(20):
        assert await told(new_hashes(), event) == [(UNKNOWN, "not_regular")]


@pytest.mark.parametrize("place", ["/dev/null", "/dev/tty", "/"])
async def test_devices_and_folders_are_not_read(path: Path, place: str) -> None:
    """A device or a folder is not hashed for the file that ran."""
    ((digest, status),) = await told(new_hashes(), run_of(path, named=Path(place)))
    assert digest == UNKNOWN
    assert status in {"not_regular", "changed", "gone"}


async def test_links_are_not_followed(path: Path) -> None:
    """A link that was put in the place of the file leads nowhere."""
    event = run_of(path)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    ((digest, status),) = await told(new_hashes(), event)
    assert (digest, status) == (UNKNOWN, "not_regular")


async def test_a_link_on_the_way_is_not_followed(path: Path) -> None:
    """A folder that was replaced by a link leads nowhere either, not even to the very file."""
    folder = path.with_name("folder")
    folder.mkdir()
    path.rename(folder / "program")
    event = run_of(folder / "program")
    folder.rename(path.with_name("elsewhere"))
    folder.symlink_to("elsewhere")
    assert await told(new_hashes(), event) == [(UNKNOWN, "gone")]


async def test_a_path_of_four_thousand_bytes(tmp_path: Path) -> None:
    """A path as long as Linux has them is opened whole, also behind the root of its process."""
    deep = tmp_path
    while len(os.fsencode(deep)) < 3_700:
        deep /= "d" * 200
    deep /= "d" * (3_999 - len(os.fsencode(deep)) - len("/program") - 1)
    deep.mkdir(parents=True)
    path = executable(deep / "program")
    assert len(os.fsencode(path)) == 3_999
    assert await told(new_hashes(), run_of(path, tgid=os.getpid())) == [(md5(path.read_bytes()), "verified")]


async def test_sha256(path: Path) -> None:
    """With SHA-256 asked for there is one beside the MD5, the second time too; without it there is none."""
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    hashes = new_hashes(sha256=True)
    for _ in range(2):
        event = run_of(path)
        assert await told(hashes, event) == [(md5(path.read_bytes()), "verified")]
        assert event.exe_sha256 == expected
    event = run_of(path)
    await told(new_hashes(), event)
    assert event.exe_sha256 == UNKNOWN


async def test_no_more_bytes_than_a_budget(tmp_path: Path) -> None:
    """Beyond the bytes of a second files are told as rate_limited at once, and known ones as ever."""
    big = executable(tmp_path / "big")
    os.truncate(big, 1 << 21)
    hashes = new_hashes(bytes_per_s=1 << 20)
    known, further = run_of(big), [run_of(executable(tmp_path / str(number))) for number in range(20)]
    assert (await told(hashes, known))[0][1] == "verified"
    assert {status for _, status in await told(hashes, *further)} == {"rate_limited"}
    assert (await told(hashes, run_of(big)))[0][1] == "verified"
    assert hashes.statistics()["rate_limited"] == 20


async def test_a_process_without_an_executable(path: Path) -> None:
    """A kernel thread has no executable, and no word is said about it."""
    event = made(Exit, tgid=NOBODY)
    assert await told(new_hashes(), event, run_of(path)) == [
        (UNKNOWN, UNKNOWN),
        (md5(path.read_bytes()), "verified"),
    ]


async def test_another_file_of_an_event(path: Path) -> None:
    """A file beside the executable, which an event names by identity and path, is hashed for it as well."""
    own, gone = Path("/proc/self/exe"), FileId(1, 2, 3, 4, 5).pack()
    there = made(LoadModule, tgid=os.getpid(), exe_file=identity(own), file=identity(path), lkm_file=os.fsencode(path))
    absent = made(LoadModule, tgid=os.getpid(), file=gone, lkm_file=b"/absent", exe_file=identity(path))
    none = made(LoadModule, tgid=os.getpid(), exe_file=identity(own))
    await told(new_hashes(), there, absent, none)
    assert (there.load_file_md5, there.load_file_hash_status) == (md5(path.read_bytes()), "verified")
    assert (there.exe_md5, there.exe_hash_status) == (md5(own.read_bytes()), "verified")
    assert (absent.load_file_md5, absent.load_file_hash_status) == (UNKNOWN, "gone")
    assert (none.load_file_md5, none.load_file_hash_status) == (UNKNOWN, UNKNOWN)
