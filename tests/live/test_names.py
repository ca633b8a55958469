# SPDX-License-Identifier: GPL-2.0-or-later
"""Files renamed, linked and removed: by every call, from every kind of directory, with any name."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.calls import AT_EMPTY_PATH, AT_FDCWD, LINKAT, RENAMEAT2, call
from tests.live.collector import Collector, Event
from tests.live.deep import components, deep_folder
from tests.live.forms import at_function
from tests.live.tools import run
from tests.live.views import LINK, RENAME, RMDIR, UNLINK, caused_by, raw, truncated

HOSTILE = b"\xff\xfe\n\t\"\\'\x7f {\xc3\xa9\xee\xbe\x80"

Told = Callable[[int], list[Event]]


@pytest.fixture
def told(collector: Collector) -> Told:
    """The events of a kind that this process has caused since the test began."""
    before = len(collector.sync())
    return lambda kind: caused_by(collector.sync()[before:], os.getpid(), kind)


@pytest.fixture
def walked(attach: str | None) -> bool:
    """Whether the kernel walks names to their end: links are followed, and what fails later is told too."""
    return at_function("rename", attach)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[bytes]:
    """The working directory of the test, by its real path."""
    was = Path.cwd()
    os.chdir(tmp_path)
    yield os.fsencode(os.path.realpath(tmp_path))
    os.chdir(was)


def names(events: list[Event]) -> list[tuple[bytes | None, bytes | None]]:
    return [(raw(event, "old_name"), raw(event, "new_name")) for event in events]


def refused(code: int, function: Callable[..., object], *arguments: str) -> None:
    """The call fails with that errno."""
    with pytest.raises(OSError, match=rf"\[Errno {code}\]"):
        function(*arguments)


def touch(*paths: bytes | str) -> None:
    for path in paths:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


@pytest.mark.guest("rename")
def test_every_way_to_rename(told: Told, folder: bytes, walked: bool) -> None:
    """rename, renameat and renameat2 tell the old and the new path, absolute or below a directory, and the flags."""
    os.mkdir("sub")
    sub = os.open("sub", os.O_RDONLY)
    touch("a", "x", "y")
    os.rename("a", "b")
    os.rename(folder + b"/b", folder + b"/sub/../c")
    os.rename("c", "./sub//./d", src_dir_fd=None, dst_dir_fd=None)
    os.rename("d", "e", src_dir_fd=sub, dst_dir_fd=sub)
    os.rename("e", b"f", src_dir_fd=sub)
    call(RENAMEAT2, AT_FDCWD, b"x", sub, b"../y", 2)
    call(RENAMEAT2, AT_FDCWD, b"f", AT_FDCWD, b"g", 1)
    os.rename("sub", "sub2")
    os.close(sub)
    events = told(RENAME)
    at = folder + b"/"
    assert names(events) == [
        (at + b"a", at + b"b"),
        (at + b"b", at + (b"c" if walked else b"sub/../c")),
        (at + b"c", at + b"sub/d"),
        (at + b"sub/d", at + b"sub/e"),
        (at + b"sub/e", at + b"f"),
        (at + b"x", at + b"y"),
        (at + b"f", at + b"g"),
        (at + b"sub", at + b"sub2"),
    ]
    assert [event["flags"] for event in events] == ["0"] * 5 + ["2", "1", "0"]
    for event in events:
        assert (event["exe"], event["uid"], event["user"]) == (os.readlink("/proc/self/exe"), "0", "root")


@pytest.mark.guest("rename", silent=True)
def test_what_renames_nothing(told: Told, folder: bytes, walked: bool) -> None:
    """A rename that fails is no event, but where the file system refuses what was told before it was done."""
    touch("a", "b")
    os.mkdir("full")
    os.mkdir("other")
    touch("full/x")
    call(RENAMEAT2, AT_FDCWD, b"a", AT_FDCWD, b"b", 1, fails=errno.EEXIST)
    call(RENAMEAT2, AT_FDCWD, b"a", AT_FDCWD, b"b", 64, fails=errno.EINVAL)
    call(RENAMEAT2, 999, b"a", 999, b"b", 0, fails=errno.EBADF)
    call(RENAMEAT2, AT_FDCWD, None, AT_FDCWD, b"b", 0, fails=errno.EFAULT)
    refused(errno.ENOENT, os.rename, "none", "b")
    refused(errno.ENOTEMPTY, os.rename, "other", "full")
    refused(errno.EXDEV, os.rename, "a", "/proc/a")
    refused(errno.EINVAL, os.rename, "other", "other/in itself")
    late = [(folder + b"/other", folder + b"/full")]
    assert names(told(RENAME)) == (late if walked else [])


def test_a_folder_that_moves_with_its_caller(told: Told, folder: bytes) -> None:
    """Whoever renames its own working directory is told with the path that the directory had."""
    os.makedirs("one/two")
    os.chdir("one/two")
    os.rename("../../one", "../../three")
    os.rename("./../two", ".././four")
    os.rename("../../three/four", "../../three/five")
    at = folder + b"/"
    assert names(told(RENAME)) == [
        (at + b"one", at + b"three"),
        (at + b"three/two", at + b"three/four"),
        (at + b"three/four", at + b"three/five"),
    ]


def test_links_in_a_name(told: Told, folder: bytes, walked: bool) -> None:
    """The working directory is told by its real path; links in the rest of a name stay as they were named."""
    os.mkdir("real")
    os.symlink("real", "link")
    os.mkdir("real/inner")
    touch("real/a")
    os.chdir("link")
    os.rename("a", "b")
    os.rename("../link/b", folder + b"/link/inner/../c")
    at = folder + b"/"
    assert names(told(RENAME)) == [
        (at + b"real/a", at + b"real/b"),
        (at + b"real/b", at + b"real/c") if walked else (at + b"link/b", at + b"link/inner/../c"),
    ]


def test_mounts_and_chroots(collector: Collector, told: Told, folder: bytes) -> None:
    """Below a mount the path goes on above it, also where ".." leaves it; in a chroot it is the host's, not beyond."""
    script = """
import os, sys
os.mkdir("m"), os.mkdir("jail"), os.mkdir("jail/in")
os.system("mount -t tmpfs none m && mount -t tmpfs none m")
os.chdir("m")
open("a", "w").close()
os.rename("a", "b")
os.rename("../m/b", "/".join(("..", "m", "c")))
os.chdir("..")
open("jail/x", "w").close()
os.chroot("jail"), os.chdir("/in")
os.rename("/x", "/../../y")
os.rename("../../../y", "z")
"""
    process = subprocess.Popen(["unshare", "-m", sys.executable, "-c", script])
    assert process.wait() == 0
    events = [event for event in collector.sync() if event["pid"] == str(process.pid)]
    at = folder + b"/"
    assert names([event for event in events if event["data_type"] == str(RENAME)]) == [
        (at + b"m/a", at + b"m/b"),
        (at + b"m/b", at + b"m/c"),
        (at + b"jail/x", at + b"jail/y"),
        (at + b"jail/y", at + b"jail/in/z"),
    ]


@pytest.mark.guest("rename", "link", "unlink", "rmdir")
@pytest.mark.parametrize("name", [HOSTILE, b"..a", b"...", b".x", b"-rf", b"x" * 255], ids=repr)
def test_hostile_names(name: bytes, told: Told, folder: bytes) -> None:
    """Whatever a name is made of, every kind tells it byte for byte, and no other field moves."""
    touch("a")
    os.rename(b"a", name)
    os.link(name, b"./" + name + b"2" if len(name) < 255 else b"b")
    os.unlink(name)
    os.mkdir(name)
    os.rmdir(name)
    path = folder + b"/" + name
    (renamed,), (linked,), (unlinked,), (removed,) = map(told, (RENAME, LINK, UNLINK, RMDIR))
    second = path + b"2" if len(name) < 255 else folder + b"/b"
    assert names([renamed, linked]) == [(folder + b"/a", path), (path, second)]
    assert (raw(unlinked, "file"), raw(removed, "file")) == (path, path)
    for event in (renamed, linked, unlinked, removed):
        assert not truncated(event)
        assert event["tgid"] == str(os.getpid())


@pytest.mark.parametrize("unit", [b"d", b"\n\xff" * 100], ids=["short", "long"])
def test_deep_folders(unit: bytes, told: Told, folder: bytes, tmp_path: Path) -> None:
    """A path of 4,000 bytes, of up to 2,000 components, is told whole; of one beyond 4,096 the end, as cut."""
    for length, cut in ((4000, False), (4900, True)):
        with deep_folder(tmp_path, components(tmp_path, length, unit)) as (deep, path):
            os.close(os.open("a", os.O_WRONLY | os.O_CREAT, dir_fd=deep))
            os.rename("a", "b", src_dir_fd=deep, dst_dir_fd=deep)
            os.unlink("b", dir_fd=deep)
        event = told(RENAME)[-1]
        (removed,) = (event for event in told(UNLINK)[-1:])
        for name, end in (("old_name", b"/a"), ("new_name", b"/b")):
            kept = raw(event, name) or b""
            assert (path + end).endswith(kept.lstrip(b"/")) if cut else kept == path + end
            assert len(kept) > 3800
        assert truncated(event) == ({"old_name", "new_name"} if cut else set())
        assert truncated(removed) == ({"file"} if cut else set())


def test_a_name_of_four_thousand_bytes(told: Told, folder: bytes, walked: bool) -> None:
    """A name that the caller made as long as a path may be is told to its last byte."""
    touch("a")
    name = b"sub/" + b"../sub/" * 570 + b"b"
    os.mkdir("sub")
    os.rename("a", name)
    os.unlink(b"/" * 4000 + folder.lstrip(b"/") + b"/sub/b")
    (renamed,), (removed,) = told(RENAME), told(UNLINK)
    assert names([renamed]) == [(folder + b"/a", folder + b"/" + (b"sub/b" if walked else name))]
    assert raw(removed, "file") == folder + b"/sub/b"
    assert not truncated(renamed) | truncated(removed)


@pytest.mark.guest("link", silent=True)
def test_every_way_to_link(told: Told, folder: bytes, walked: bool) -> None:
    """link and linkat tell both paths, of an unnamed file the one it had; a symbolic link or a failure is no event."""
    os.mkdir("sub")
    sub = os.open("sub", os.O_RDONLY)
    touch("a")
    os.link("a", "b")
    os.link("a", "c", dst_dir_fd=sub)
    os.link("c", "../d", src_dir_fd=sub, dst_dir_fd=sub)
    unnamed = os.open("sub", os.O_WRONLY | os.O_TMPFILE, 0o600)
    had = os.fsencode(os.readlink(f"/proc/self/fd/{unnamed}")).removesuffix(b" (deleted)")
    call(LINKAT, unnamed, b"", AT_FDCWD, b"e", AT_EMPTY_PATH)
    os.symlink("a", "s")
    refused(errno.EEXIST, os.link, "a", "b")
    refused(errno.ENOENT, os.link, "none", "f")
    refused(errno.EPERM, os.link, "sub", "f")
    os.close(unnamed)
    os.close(sub)
    at = folder + b"/"
    assert names(told(LINK)) == [
        (at + b"a", at + b"b"),
        (at + b"a", at + b"sub/c"),
        (at + b"sub/c", at + b"d"),
        (had, at + b"e"),
        *([(at + b"sub", at + b"f")] if walked else []),
    ]


@pytest.mark.guest("unlink", "rmdir", silent=True)
def test_what_is_removed(told: Told, folder: bytes, walked: bool) -> None:
    """unlink tells files, links and sockets, rmdir directories, unlinkat whichever it was; failures are no event."""
    os.makedirs("sub/one")
    os.mkdir("sub/two")
    sub = os.open("sub", os.O_RDONLY)
    touch("a", "sub/b", "sub/c")
    os.symlink("nowhere", "s")
    os.mkfifo("f")
    for name in ("a", "s", "f", folder + b"/sub/b"):
        os.unlink(name)
    os.unlink("c", dir_fd=sub)
    os.rmdir("sub/one/")
    os.rmdir("two", dir_fd=sub)
    refused(errno.EISDIR, os.unlink, "sub")
    refused(errno.ENOENT, os.unlink, "a")
    refused(errno.EINVAL, os.rmdir, ".")
    os.rmdir("../" + os.path.basename(os.getcwd()) + "/sub")
    os.close(sub)
    at = folder + b"/"
    assert [raw(event, "file") for event in told(UNLINK)] == [
        at + name for name in (b"a", b"s", b"f", b"sub/b", b"sub/c", *([b"sub"] if walked else []))
    ]
    assert [raw(event, "file") for event in told(RMDIR)] == [at + name for name in (b"sub/one", b"sub/two", b"sub")]


def test_descriptors_beyond_nine_hundred(told: Told, folder: bytes) -> None:
    """A directory behind a high descriptor is told like any other."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
    os.mkdir("sub")
    touch("sub/a")
    low = os.open("sub", os.O_RDONLY)
    os.dup2(low, 1999)
    os.rename("a", "b", src_dir_fd=1999, dst_dir_fd=1999)
    os.unlink("b", dir_fd=1999)
    os.close(1999)
    os.close(low)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert names(told(RENAME)) == [(folder + b"/sub/a", folder + b"/sub/b")]
    assert [raw(event, "file") for event in told(UNLINK)] == [folder + b"/sub/b"]


def test_a_removed_working_directory(told: Told, folder: bytes) -> None:
    """From a directory that is gone the names lead where they did."""
    os.mkdir("gone")
    touch("a")
    os.chdir("gone")
    os.rmdir(folder + b"/gone")
    os.rename("../a", "../b")
    assert names(told(RENAME)) == [(folder + b"/a", folder + b"/b")]


def test_names_in_ecs(tracefs: Path, folder: bytes, tmp_path: Path) -> None:
    """In ecs the new path is file.path, the old one hookline.file.original_path."""
    with Collector(tmp_path, {"collector": {"probes": ["all"]}}, schema="ecs") as running:
        touch("a")
        run("mv", folder + b"/a", folder + b"/b")
        run("rm", folder + b"/b")
        events = running.sync()
        running.stop().check()
    (renamed,) = (e for e in events if e["event"]["action"] == "rename" and e["process"]["name"] == "mv")
    (removed,) = (e for e in events if e["event"]["action"] == "unlink" and e["process"]["name"] == "rm")
    assert renamed["file"]["path"] == removed["file"]["path"] == f"{folder.decode()}/b"
    assert renamed["hookline"]["file"]["original_path"] == f"{folder.decode()}/a"
    assert (renamed["event"]["category"], renamed["event"]["type"]) == (["file"], ["change"])
    assert removed["event"]["type"] == ["deletion"]
