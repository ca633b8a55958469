# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of compiled probes: what is trusted, and what makes a key another."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from probes.filters import Filters, MapSettings
from probes.kernel import cache as module
from probes.kernel.cache import Cache, Keys
from probes.kernel.messages import Request
from probes.kernel.object import Map, Object, Program

KEY = "0123456789abcdef" * 2
OBJECT = Object(
    "exit",
    "tracepoint",
    programs=(Program("exit_process", "raw_tracepoint", bytes(range(16)), ((0, "hl_events"),)),),
    maps={"hl_events": Map(27, 0, 0, 4096, 0)},
)
REQUEST = Request(("exit",), 65_536, MapSettings(Filters(), 1, 1024), kinds=("exit", "fork"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds one object, as the cache made it."""
    folder = tmp_path / "deep" / "cache"
    Cache(str(folder)).write("exit", KEY, OBJECT)
    return folder


def entry(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def test_what_is_written_is_read(folder: Path) -> None:
    """An object comes back as it was, from files of which nobody else may know."""
    assert Cache(str(folder)).read("exit", KEY) == OBJECT
    assert (folder.stat().st_mode & 0o777, entry(folder).stat().st_mode & 0o777) == (0o700, 0o600)


def test_another_key_or_probe_finds_nothing(folder: Path) -> None:
    """Nothing is found under another key or name, even if somebody renames the file."""
    assert Cache(str(folder)).read("exit", KEY[::-1]) is None
    assert Cache(str(folder)).read("fork", KEY) is None
    entry(folder).rename(folder / f"exit-{KEY[::-1]}.bpf")
    assert Cache(str(folder)).read("exit", KEY[::-1]) is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOILED: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "cut short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "writable for the group": lambda path: path.chmod(0o620),
    "writable for others": lambda path: path.chmod(0o602),
    "a folder that others may write to": lambda path: path.parent.chmod(0o777),
    "a symbolic link": link,
    "a pipe": pipe,
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_cannot_be_trusted_is_not_there(folder: Path, how: str) -> None:
    """A file that is damaged, or that another could have written, is not read, and nothing hangs or fails."""
    SPOILED[how](entry(folder))
    assert Cache(str(folder)).read("exit", KEY) is None


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_another_user_owns_is_not_there(folder: Path, what: str) -> None:
    """What belongs to another user is not read."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(entry(folder) if what == "file" else folder, 1000, 1000)
    assert Cache(str(folder)).read("exit", KEY) is None


def test_a_spoiled_file_is_replaced(folder: Path) -> None:
    """What was written over a damaged file is read again."""
    flip(entry(folder))
    Cache(str(folder)).write("exit", KEY, OBJECT)
    assert Cache(str(folder)).read("exit", KEY) == OBJECT


@pytest.mark.parametrize("folder", ["", "/proc/no/such/place", "/dev/null"])
def test_no_place_is_no_error(folder: str) -> None:
    """Without a folder, or where none can be, nothing is kept and nothing fails."""
    cache = Cache(folder)
    cache.write("exit", KEY, OBJECT)
    assert cache.read("exit", KEY) is None
    cache.remove("exit", KEY)


def test_old_files_go(folder: Path) -> None:
    """Of each probe only the files that were used last are kept."""
    cache = Cache(str(folder))
    os.utime(entry(folder), (0, 0))
    cache.write("fork", KEY, OBJECT)
    keys = [f"{number:032x}" for number in range(8)]
    for key in keys:
        cache.write("exit", key, OBJECT)
    assert {path.name for path in folder.iterdir()} == {f"exit-{key}.bpf" for key in keys} | {f"fork-{KEY}.bpf"}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of two probes, one of which uses what a third module and a header of another folder have."""
    files = {
        "probe.py": "",
        "kernel/source.py": "",
        "kernel/hookline.h": "",
        "process/exit.c": '#include "network/sockets.h"\n',
        "process/exit.py": "from probes.network.sockets import X\n",
        "process/fork.c": "",
        "process/fork.py": "",
        "network/sockets.h": '#include "network/deeper.h"\n',
        "network/deeper.h": "",
        "network/sockets.py": "from probes.network.deepest import Y\n",
        "network/deepest.py": "",
        "kernel.bin": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "_PROBES", tmp_path)
    monkeypatch.setattr(module, "_KERNEL", (tmp_path / "kernel.bin",))
    return tmp_path


@pytest.mark.parametrize(
    "changed",
    [
        "probe.py",
        "kernel/source.py",
        "kernel/hookline.h",
        "kernel.bin",
        "process/exit.c",
        "process/exit.py",
        "network/sockets.h",
        "network/deeper.h",
        "network/sockets.py",
        "network/deepest.py",
    ],
)
def test_a_change_makes_another_key(tree: Path, changed: str) -> None:
    """Whatever goes into a probe's programs is in its key: kernel, loader, its own files, all that these name."""
    before = Keys(REQUEST).key("exit")
    assert Keys(REQUEST).key("exit") == before
    with (tree / changed).open("a") as file:
        file.write("\n")
    assert Keys(REQUEST).key("exit") != before


def test_another_probe_changes_nothing(tree: Path) -> None:
    """A change of a probe does not cost the others their compiled programs."""
    before = Keys(REQUEST).key("exit")
    for name in ("process/fork.c", "process/fork.py"):
        (tree / name).write_text("changed")
    assert Keys(REQUEST).key("exit") == before


@pytest.mark.parametrize("change", [{"attach": "kprobe"}, {"histogram": True}, {"kinds": ("fork", "exit")}])
def test_what_is_asked_for_is_in_the_key(tree: Path, change: dict[str, object]) -> None:
    """Another form, histograms, another slot for the counters: other programs."""
    assert Keys(msgspec.structs.replace(REQUEST, **change)).key("exit") != Keys(REQUEST).key("exit")


def test_what_is_not_in_the_programs_is_not_in_the_key(tree: Path) -> None:
    """The ring's size and the filters stand in maps: they need no other programs."""
    other = msgspec.structs.replace(REQUEST, ring_bytes=4096, settings=MapSettings(Filters(uid=(1,)), 2, 3))
    assert Keys(other).key("exit") == Keys(REQUEST).key("exit")
