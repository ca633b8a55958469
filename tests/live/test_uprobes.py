# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that user probes are attached to: found once, bounded, let go; and whatever a container puts in their place."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from probes.kernel import uprobes
from probes.kernel.elf import Elf
from probes.kernel.program import RETURN_ZERO, load
from probes.kernel.uprobes import News, Uprobes
from tests.live.collector import Collector
from tests.live.conftest import Programs
from tests.live.containers import MUSL, inside, musl_root
from tests.live.test_resolutions import Lookup
from tests.live.tools import until

BREAKPOINT = b"\xcc"
"""int3, which the kernel puts at the first instruction."""

LINKER = f"/lib/ld-musl-hookline{os.getpid()}.so.1"
PLACE = "lib/ld-musl-x86_64.so.1"
"""A place that is looked at though no process maps it."""


@pytest.fixture
def attached() -> Iterator[Uprobes]:
    """The probe `resolve` with programs that do nothing."""
    programs = [
        ("resolve", "resolve_entered", load("uprobe", "entered", RETURN_ZERO)),
        ("resolve", "resolve_returned", load("uretprobe", "returned", RETURN_ZERO)),
    ]
    found = Uprobes(programs)
    yield found
    found.close()
    for _probe, _program, fd in programs:
        os.close(fd)


class Search:
    """What searches of one process told."""

    def __init__(self, attached: Uprobes) -> None:
        self._attached = attached
        self.news: list[News] = []

    def __call__(self, *pids: int, most: int = 64) -> list[tuple[str, str]]:
        """What a search changed: what, and the path."""
        before = len(self.news)
        assert self._attached.search(pids, most, self.news.append)
        return [(news.what, news.path) for news in self.news[before:]]


WATCHING, REFUSED, LET_GO = "watching a file", "a file cannot be watched", "a file is no longer watched"


def child_of(pid: int) -> int:
    """The only child of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return int(until(lambda: path.read_text().strip(), "a child"))


def first_byte(pid: int, library: str, file: Path) -> bytes:
    """Where a process maps `library`, whose content is that of `file`: the first byte of getaddrinfo."""
    with file.open("rb") as content:
        offset = Elf(content.fileno()).function("getaddrinfo")
    assert offset is not None
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, _mode, at, _device, _inode, *path = line.split(maxsplit=5)
        start, end = (int(each, 16) for each in span.split("-"))
        if path == [library] and 0 <= offset - int(at, 16) < end - start:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(start + offset - int(at, 16))
                return memory.read(1)
    pytest.fail(f"{pid} does not map {library}")


@pytest.fixture
def root(programs: Programs, tmp_path: Path) -> Path:
    return musl_root(tmp_path / "root", programs, LINKER)


@contextlib.contextmanager
def running(command: Sequence[str | Path]) -> Iterator[Lookup]:
    process = Lookup(command, [(0, "127.0.0.1", "80")])
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.go()


def test_one_file_for_all_processes(root: Path, attached: Uprobes) -> None:
    """A file is attached to once, and works in each process that maps it, also in one that begins later."""
    search = Search(attached)
    with running(inside(root, "/bin/lookup")) as one, running(inside(root, "/bin/lookup")) as two:
        pids = child_of(one.pid), child_of(two.pid)
        assert first_byte(pids[0], LINKER, MUSL) != BREAKPOINT
        assert search(*pids) == [(WATCHING, LINKER)]
        assert search(*pids) == []
        with running(inside(root, "/bin/lookup")) as three:
            for pid in (*pids, child_of(three.pid)):
                assert first_byte(pid, LINKER, MUSL) == BREAKPOINT
            attached.close()
            for pid in (*pids, child_of(three.pid)):
                until(lambda pid=pid: first_byte(pid, LINKER, MUSL) != BREAKPOINT, "the breakpoint is gone")  # type: ignore[misc]


def test_containers_of_one_image(root: Path, attached: Uprobes, tmp_path: Path) -> None:
    """A file of an image that several containers overlay is one file: attached to once."""
    mount = "mkdir -p {0} && mount -t tmpfs none {0} && mkdir {0}/up {0}/work {0}/root && "
    mount += "mount -t overlay none -o lowerdir={1},upperdir={0}/up,workdir={0}/work {0}/root && cd {0}/root"
    search = Search(attached)
    with contextlib.ExitStack() as stack:
        pids = []
        for number in range(3):
            layer = tmp_path / f"layer{number}"
            enter = mount.format(layer, root)
            shell = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
            command = [*shell, f'{enter}; pivot_root . old; exec /bin/lookup "$@"', "sh"]
            pids.append(stack.enter_context(running(command)).pid)
        assert search(*pids) == [(WATCHING, LINKER)]
        assert {first_byte(pid, LINKER, MUSL) for pid in pids} == {BREAKPOINT}


def test_a_file_that_is_rewritten(root: Path, attached: Uprobes) -> None:
    """A file with another content is attached to anew; what was attached to the old content is gone."""
    search = Search(attached)
    with running(inside(root, "/bin/lookup")) as process:
        pid = child_of(process.pid)
        assert search(pid) == [(WATCHING, LINKER)]
        os.utime(f"{root}{LINKER}", (1, 1))
        assert search(pid) == [(WATCHING, LINKER)]
        assert attached.statistics()["attached_files"] == 1
        assert first_byte(pid, LINKER, MUSL) == BREAKPOINT


def test_a_file_that_nobody_has(root: Path, attached: Uprobes) -> None:
    """A file is let go by the second search of all processes after the last process that had it."""
    search = Search(attached)
    with running(inside(root, "/bin/lookup")):
        assert (WATCHING, LINKER) in search()
        shutil.rmtree(root)
        assert (LET_GO, LINKER) not in search() + search()
    told = search()
    assert (LET_GO, LINKER) not in told
    assert (LET_GO, LINKER) in search()


def test_the_bound(root: Path, attached: Uprobes) -> None:
    """Beyond the bound no file is attached to, and those left out are counted."""
    search = Search(attached)
    with running(inside(root, "/bin/lookup")) as process:
        assert search(child_of(process.pid), most=0) == []
        figures = attached.statistics()
        assert (figures["attached_files"], figures["left_out_files"]) == (0, 1)


def hostile(path: Path, kind: str) -> None:
    """Put something at `path` that is no C library."""
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "folder":
            path.mkdir()
        case "device":
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
        case "outside":
            path.symlink_to("/../../../../proc/1/root/lib/x86_64-linux-gnu/libc.so.6")
        case "empty":
            path.touch()
        case "huge":
            path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\xff" * 48)
            os.truncate(path, 1 << 42)
        case "cut":
            path.write_bytes(MUSL.read_bytes()[:5000])
        case "no code":
            content = bytearray(MUSL.read_bytes())
            for at in range(64, 64 + 56 * content[56], 56):
                content[at + 4] &= ~1  # PF_X
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("fifo", False), ("loop", False), ("folder", False), ("device", False), ("outside", False),
        ("empty", True), ("huge", True), ("cut", True), ("no code", True),
    ],
)  # fmt: skip
def test_a_hostile_file(kind: str, refused: bool, root: Path, attached: Uprobes) -> None:
    """What a container has in a library's place stalls nothing, is attached to nowhere, and hides no true one."""
    search = Search(attached)
    hostile(root / PLACE, kind)
    with running(inside(root, "/bin/lookup")) as process:
        pid = child_of(process.pid)
        assert sorted(search(pid)) == sorted([(WATCHING, LINKER), *([(REFUSED, f"/{PLACE}")] * refused)])
        assert search(pid) == []
    if kind == "fifo":
        with pytest.raises(OSError, match="No such device or address"):  # nobody has it open
            os.open(root / PLACE, os.O_WRONLY | os.O_NONBLOCK)


@contextlib.contextmanager
def dead_file_system(place: Path) -> Iterator[None]:
    """A FUSE file system whose server does not answer: whoever touches it waits."""
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        assert libc.mount(b"fuse", os.fsencode(place), b"fuse", 0, options) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            libc.umount2(os.fsencode(place), 2)  # MNT_DETACH
    finally:
        os.close(server)


def test_a_file_system_that_does_not_answer(
    root: Path, attached: Uprobes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose file system does not answer is given up, once, and told; others are found all the same."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this kernel has no FUSE")
    monkeypatch.setattr(uprobes, "_PATIENCE_S", 2.0)
    other = tmp_path / "other"
    shutil.copytree(root, other)
    (root / "lib64").mkdir()
    place = tmp_path / "dead"
    place.mkdir()
    news: list[News] = []
    with (
        dead_file_system(place),
        running(inside(root, "/bin/lookup", before=f"mount --bind '{place}' lib64")) as dead,
        running(inside(other, "/bin/lookup")) as living,
    ):
        pids = (child_of(dead.pid), child_of(living.pid))
        assert not attached.search(pids, 64, news.append)
        assert "not done in time" in news[-1].reason
        assert attached.search(pids, 64, news.append)
        assert first_byte(pids[1], LINKER, MUSL) == BREAKPOINT
    assert attached.statistics()["stuck_searches"] == 1


def test_the_end_of_the_collector(root: Path, tmp_path: Path) -> None:
    """The collector attaches to what begins while it runs, and when it has ended nothing is attached."""
    folder = tmp_path / "collector"
    folder.mkdir()
    with Collector(folder, {"collector": {"probes": ["resolve", "execve"]}}) as collector:
        collector.wait_for_log("watching a file")
        with running(inside(root, "/bin/lookup")) as process:
            pid = child_of(process.pid)
            until(lambda: first_byte(pid, LINKER, MUSL) == BREAKPOINT, "a breakpoint")
            collector.stop().check()
            until(lambda: first_byte(pid, LINKER, MUSL) != BREAKPOINT, "the breakpoint is gone")


def test_the_collector_is_killed(root: Path, tmp_path: Path) -> None:
    """Killed, the collector leaves nothing attached either."""
    folder = tmp_path / "collector"
    folder.mkdir()
    with Collector(folder, {"collector": {"probes": ["resolve", "execve"]}}) as collector:
        collector.wait_for_log("watching a file")
        with running(inside(root, "/bin/lookup")) as process:
            pid = child_of(process.pid)
            until(lambda: first_byte(pid, LINKER, MUSL) == BREAKPOINT, "a breakpoint")
            collector.process.kill()
            collector.process.wait()
            until(lambda: first_byte(pid, LINKER, MUSL) != BREAKPOINT, "the breakpoint is gone")
