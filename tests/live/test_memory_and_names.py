# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process does to itself: memory made executable, files in memory, names, sessions."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.calls import MPROTECT, PKEY_MPROTECT, PR_SET_PDEATHSIG, PRCTL, SETSID, call, fork
from tests.live.collector import Collector, Event
from tests.live.deep import components, deep_folder
from tests.live.test_surroundings import PRIVATE_MOUNTS
from tests.live.tools import until
from tests.live.views import MEMFD_CREATE, MPROTECT_KIND, PRCTL_KIND, SETSID_KIND, caused_by, raw, truncated

HOSTILE = b"\xff\n\t\"\\'\x7f {\xc3\xa9"
READ, WRITE, EXEC = 1, 2, 4
PAGE = mmap.PAGESIZE

PR_SET_NAME, PR_GET_NAME = 15, 16

Told = Callable[[int], list[Event]]


@pytest.fixture
def told(collector: Collector) -> Told:
    """The events of a kind that this process has caused since the test began."""
    before = len(collector.sync())
    return lambda kind: caused_by(collector.sync()[before:], os.getpid(), kind)


class Mapped:
    """Pages of a file, or of none, mapped readable; and where."""

    def __init__(self, pages: int, path: bytes | None = None, *, folder: int | None = None) -> None:
        fd = -1 if path is None else os.open(path, os.O_RDONLY, dir_fd=folder)
        flags = mmap.MAP_PRIVATE | (mmap.MAP_ANONYMOUS if path is None else 0)
        self.map = mmap.mmap(fd, pages * PAGE, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if fd >= 0:
            os.close(fd)


def filed(path: bytes | str, pages: int = 1, folder: int | None = None) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    os.write(fd, bytes(pages * PAGE))
    os.close(fd)


@pytest.mark.guest("mprotect")
def test_memory_made_executable(told: Told, tmp_path: Path) -> None:
    """mprotect and pkey_mprotect with PROT_EXEC tell where, how much, how, whose, and the file that is mapped there."""
    path = os.fsencode(tmp_path / "mapped")
    filed(path, 3)
    nothing, mapped = Mapped(4), Mapped(3, path)
    call(MPROTECT, nothing.address, 2 * PAGE, READ | EXEC)
    call(MPROTECT, mapped.address + PAGE, PAGE, READ | WRITE | EXEC)
    call(PKEY_MPROTECT, mapped.address, PAGE, EXEC, -1)
    events = told(MPROTECT_KIND)
    assert [(e["start"], e["len"], e["prot"], raw(e, "vm_file")) for e in events] == [
        (f"{nothing.address:016x}", str(2 * PAGE), "5", None),
        (f"{mapped.address + PAGE:016x}", str(PAGE), "7", path),
        (f"{mapped.address:016x}", str(PAGE), "4", path),
    ]
    for event in events:
        assert event["owner_pid"] == event["tgid"] == str(os.getpid())
        assert not truncated(event)


@pytest.mark.guest("mprotect", silent=True)
def test_memory_not_made_executable(told: Told) -> None:
    """Without PROT_EXEC, and where it fails, there is no event."""
    mapped = Mapped(1)
    call(MPROTECT, mapped.address, PAGE, READ)
    call(MPROTECT, mapped.address, PAGE, 0)
    call(MPROTECT, mapped.address, PAGE, READ | WRITE)
    call(MPROTECT, mapped.address + 1, PAGE, READ | EXEC, fails=errno.EINVAL)
    call(MPROTECT, 0, PAGE, READ | EXEC, fails=errno.ENOMEM)
    assert told(MPROTECT_KIND) == []


OVERLAY = "mkdir upper work mnt; mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work mnt"

MAPS = """
import sys
from tests.live.calls import MPROTECT, call
from tests.live.test_memory_and_names import EXEC, PAGE, READ, Mapped
for mapped in [Mapped(1, path.encode()) for path in sys.argv[1:]]:
    call(MPROTECT, mapped.address, PAGE, READ | EXEC)
"""


@pytest.mark.guest("mprotect")
def test_files_of_an_overlay(collector: Collector, tmp_path: Path) -> None:
    """A mapped file of an overlay, from either layer, is told by its path there, not by that of the layer's file."""
    (tmp_path / "lower").mkdir()
    filed(str(tmp_path / "lower/of_lower"))
    paths = [str(tmp_path / "mnt" / name) for name in ("of_lower", "of_upper")]
    script = f"cd '{tmp_path}'; {OVERLAY}; head -c {PAGE} /dev/zero >mnt/of_upper; exec \"$@\""
    with subprocess.Popen([*PRIVATE_MOUNTS, script, "sh", sys.executable, "-c", MAPS, *paths]) as process:
        pass
    assert process.returncode == 0
    told = caused_by(collector.sync(), process.pid, MPROTECT_KIND)
    assert [raw(event, "vm_file") for event in told if raw(event, "vm_file")] == [os.fsencode(path) for path in paths]


def test_a_file_among_thousands(told: Told, tmp_path: Path) -> None:
    """Of a process with 3,000 areas of memory, each is told with the file that /proc/PID/maps names there."""
    names = [os.fsencode(tmp_path / f"mapped{number}") for number in range(3)]
    for name in names:
        filed(name)
    mapped = [Mapped(1, names[number % 3]) for number in range(3000)]
    in_maps = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, *_, path = line.split()
        in_maps[int(addresses.split("-")[0], 16)] = path
    for each in mapped[::10]:
        call(MPROTECT, each.address, PAGE, READ | EXEC)
    events = told(MPROTECT_KIND)
    assert [int(event["start"], 16) for event in events] == [each.address for each in mapped[::10]]
    assert [event["vm_file"] for event in events] == [in_maps[each.address] for each in mapped[::10]]


def test_a_mapped_file_deep_down(told: Told, tmp_path: Path) -> None:
    """The file's path is told whole at 4,000 bytes and 1,900 components, and with a hostile name."""
    with deep_folder(tmp_path, components(tmp_path, 3980, b"d")) as (deep, path):
        filed(HOSTILE, folder=deep)
        mapped = Mapped(1, HOSTILE, folder=deep)
        call(MPROTECT, mapped.address, PAGE, READ | EXEC)
    (event,) = told(MPROTECT_KIND)
    assert (raw(event, "vm_file"), truncated(event)) == (path + b"/" + HOSTILE, set())


@pytest.mark.guest("memfd_create")
@pytest.mark.parametrize("name", [b"plain", b"", HOSTILE, b"\n" * 249, b"../../etc/passwd"], ids=repr)
def test_files_in_memory(name: bytes, told: Told) -> None:
    """A memfd is told with its descriptor, its flags, and its name to the last byte, as /proc shows it."""
    low = os.memfd_create(os.fsdecode(name), 1 | 2)
    shown = os.readlink(os.fsencode(f"/proc/self/fd/{low}"))
    os.close(low)
    (event,) = told(MEMFD_CREATE)
    assert shown == b"/memfd:" + name + b" (deleted)"
    assert (raw(event, "fdname") or b"", event["fd"], event["flags"]) == (name, str(low), "3")
    assert not truncated(event)


@pytest.mark.guest("memfd_create", silent=True)
def test_no_file_in_memory(told: Told) -> None:
    """A memfd_create that fails is no event."""
    for name, flags in ((b"x" * 250, 0), (b"x", 0x4000)):
        with pytest.raises(OSError, match=rf"\[Errno {errno.EINVAL}\]"):
            os.memfd_create(os.fsdecode(name), flags)
    assert told(MEMFD_CREATE) == []


def test_a_descriptor_beyond_nine_hundred(collector: Collector) -> None:
    """The name comes from the file behind a high descriptor too."""
    script = """
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = [os.dup(0) for _ in range(1500)]
print(os.memfd_create("high"))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        out, _ = process.communicate()
    (event,) = caused_by(collector.sync(), process.pid, MEMFD_CREATE)
    assert (event["fdname"], event["fd"]) == ("high", out.decode().strip())
    assert int(event["fd"]) > 900


@pytest.mark.guest("prctl")
@pytest.mark.parametrize("name", [b"plain", b"", HOSTILE, b"x" * 4000, b"0123456789abcdef"], ids=len)
def test_names_of_threads(name: bytes, told: Told) -> None:
    """PR_SET_NAME is told with the name that /proc then shows, cut to 15 bytes, and the thread that has it."""
    shown: list[bytes] = []
    thread = threading.Thread(target=lambda: shown.append(renamed(name)))
    thread.start()
    number = until(lambda: thread.native_id, "the thread's id")
    thread.join()
    (event,) = told(PRCTL_KIND)
    assert shown == [name[:15]]
    assert (raw(event, "new_name") or b"", event["option"]) == (name[:15], "15")
    assert (event["pid"], event["comm"]) == (str(number), event["new_name"] if name else "-1")


def renamed(name: bytes) -> bytes:
    """What /proc says after this thread gave itself a name."""
    call(PRCTL, PR_SET_NAME, name)
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_bytes().removesuffix(b"\n")


@pytest.mark.guest("prctl", silent=True)
def test_other_options_of_prctl(told: Told) -> None:
    """Another option of prctl, or an address that cannot be read, is no event."""
    name = ctypes.create_string_buffer(16)
    call(PRCTL, PR_GET_NAME, ctypes.addressof(name))
    call(PRCTL, PR_SET_PDEATHSIG, 0)
    call(PRCTL, PR_SET_NAME, 16, fails=errno.EFAULT)
    assert told(PRCTL_KIND) == []


@pytest.mark.guest("setsid")
def test_sessions(collector: Collector) -> None:
    """setsid is told with the new session; of who leads one already, the failure."""

    def lead() -> None:
        call(SETSID)
        call(SETSID, fails=errno.EPERM)

    child = fork(lead)
    assert os.waitpid(child, 0)[1] == 0
    events = caused_by(collector.sync(), child, SETSID_KIND)
    assert [(event["res"], event["sid"], event["pgid"]) for event in events] == [
        ("0", str(child), str(child)),
        (str(-errno.EPERM), str(child), str(child)),
    ]


@pytest.mark.guest("setsid", silent=True)
def test_no_session(collector: Collector) -> None:
    """A new process group, and a question for the session, are no event."""

    def group() -> None:
        os.setpgid(0, 0)
        os.getsid(0)

    child = fork(group)
    assert os.waitpid(child, 0)[1] == 0
    assert caused_by(collector.sync(), child, SETSID_KIND) == []
