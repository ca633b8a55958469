# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that would fool or hold up who hashes them: each has its status, and nobody else waits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.deep import place
from tests.live.test_executions import md5
from tests.live.test_surroundings import held
from tests.live.tools import Tables, run, until
from tests.ports import free_port

CALM: Tables = {
    "collector": {"probes": ["execve", "exit", "fork", "create_file"]},
    "enrich.hashes": {"order_ms": 20, "wait_s": 2.0, "close_wait_s": 1.0},
}
"""As by default: `Collector` has other values, so that tests see events in order."""

MOST_S = 0.0502
"""50 ms, as the histogram's buckets have it."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def collector(port: int, programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One with the defaults, whose stages must not have been held up at its end."""
    tables = {**CALM, "metrics": {"listen": f"127.0.0.1:{port}"}}
    with Collector(tmp_path_factory.mktemp("collector"), tables) as running:
        yield running
        if running.process.poll() is None:
            # Of a few events one list is more than the hundredth part.
            run(programs("spawn"), "5000", "0", programs("nop"), "p99")
            running.sync()
            # To encode waits for nothing, so it tells what a busy machine adds.
            assert p99(port, "enrich") <= max(MOST_S, 4 * p99(port, "encode"))
            running.stop().check()


def p99(port: int, stage: str) -> float:
    """Seconds within which the stage has passed on 99 of 100 events."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    label = f'stage="{stage}"}}'
    buckets = [line for line in lines if line.startswith("hookline_stage_seconds_bucket") and label in line]
    counts = [(line.partition('le="')[2].partition('"')[0], float(line.rpartition(" ")[2])) for line in buckets]
    return float(next(bound for bound, count in counts if count >= 0.99 * counts[-1][1]))


def executions(collector: Collector, path: Path | str) -> Callable[[], list[Event] | None]:
    return lambda: [e for e in collector.read() if e["data_type"] == "59" and e["exe"] == str(path)] or None


def execution(collector: Collector, path: Path | str) -> Event:
    """The last execution of the file at `path`, as soon as it is there."""
    return until(executions(collector, path), f"the execution of {path}")[-1]


def creation(collector: Collector, path: Path) -> Event:
    """The event that tells of the new file."""
    return until(lambda: creations(collector, path), f"the creation of {path}")[-1]


def creations(collector: Collector, path: Path) -> list[Event]:
    return [e for e in collector.read() if e["data_type"] == "602" and e["file_path"] == str(path)]


def result(event: Event) -> tuple[str, str]:
    """MD5 and status."""
    name = "create_file" if event["data_type"] == "602" else "exe"
    return event[f"{name}_md5"], event[f"{name}_hash_status"]


@contextlib.contextmanager
def stopped(collector: Collector) -> Iterator[None]:
    """The collector sees what happens meanwhile only after it."""
    collector.send(signal.SIGSTOP)
    try:
        yield
    finally:
        collector.send(signal.SIGCONT)


def copy(programs: Programs, path: Path, more: bytes = b"") -> Path:
    path.write_bytes(programs("nop").read_bytes() + more)
    path.chmod(0o755)
    return path


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"#!/bin/sh\n" + os.urandom(32))
    other.rename(path)


def rewritten(path: Path) -> None:
    # The same size and times, but for the change time, which nobody can set.
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def made_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def made_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def made_loop_of_folders(path: Path) -> None:
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(path.parent.name)


def made_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero


def grown(path: Path) -> None:
    os.truncate(path, 10 << 30)


SWAPS: dict[Callable[[Path], None], str] = {
    replaced: "changed",
    rewritten: "changed",
    grown: "changed",
    made_fifo: "not_regular",
    made_device: "not_regular",
    made_loop: "not_regular",
    made_loop_of_folders: "gone",
    Path.unlink: "gone",
}


def test_what_is_swapped_before_it_is_hashed(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """A file that was swapped between its execution and its hashing is told by what was done; it has no digest."""
    paths = {}
    for number, swap in enumerate(SWAPS):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths[swap] = copy(programs, folder / "program", os.urandom(16))
    with stopped(collector):
        for swap, path in paths.items():
            run(path)
            swap(path)
    told = {swap: result(execution(collector, path)) for swap, path in paths.items()}
    assert told == {swap: ("-1", status) for swap, status in SWAPS.items()}


def test_a_file_that_is_never_the_same(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """Of a path whose file is swapped all the time, whatever is called verified has the digest of the file that ran."""
    path, digests = tmp_path / "program", {}
    for number in range(300):
        fresh = copy(programs, tmp_path / "fresh", b"%032d" % number)
        digests[str(number)] = md5(fresh)
        fresh.rename(path)
        run(path, str(number))
    until(lambda: len(executions(collector, path)() or ()) == 300, "300 executions")
    events = executions(collector, path)() or []
    for event in events:
        number = event["argv"].split()[1]
        assert result(event) in {(digests[number], "verified"), ("-1", "changed"), ("-1", "gone")}, number
    assert any(result(event)[1] == "verified" for event in events)


def test_sizes(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """A sparse program of 10 GB is too big, and so is a new file that grew so large."""
    program = copy(programs, tmp_path / "program")
    grown(program)
    run(program)
    new = tmp_path / "new"
    new.touch()
    with new.open("wb") as file:
        file.truncate(10 << 30)
    several = [tmp_path / f"made{number}" for number in range(5)]
    for made in several:
        with made.open("wb") as file:
            file.truncate(10 << 30)
    assert result(execution(collector, program)) == ("-1", "too_big")
    # This collector does not wait for the close, so it may have looked at one while it was empty.
    assert ("-1", "too_big") in [result(creation(collector, made)) for made in several]


def test_without_a_path(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """Programs that were deleted, or never had a path (memfd), are hashed through the processes that run them."""
    hold = programs("hold")
    gone = copy(programs, tmp_path / "gone")
    gone.write_bytes(hold.read_bytes())
    with held("sh", "-c", f"exec 9<'{gone}'; rm '{gone}'; exec /proc/self/fd/9"):
        assert result(execution(collector, gone)) == (md5(hold), "verified")
    memory = os.memfd_create("nothing", 0)
    os.write(memory, hold.read_bytes())
    with held(f"/proc/{os.getpid()}/fd/{memory}"):
        event = until(
            lambda: [e for e in collector.read() if e["data_type"] == "59" and "memfd:nothing" in e["exe"]], "memfd"
        )[-1]
        assert result(event) == (md5(hold), "verified")
    os.close(memory)


def test_a_deep_path(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """A program at a path of 4,000 bytes is hashed like another, also when its process is gone."""
    deep = tmp_path
    while len(os.fsencode(deep)) < 3_700:
        deep /= "d" * 200
    deep /= "d" * (3_999 - len(os.fsencode(deep)) - len("/program") - 1)
    deep.mkdir(parents=True)
    here = os.open(deep, os.O_RDONLY)
    place(programs("nop"), here, b"program")
    os.close(here)
    with stopped(collector):
        run("./program", cwd=deep)
    assert result(execution(collector, deep / "program")) == (md5(programs("nop")), "verified")


def test_a_mount_that_does_not_answer(collector: Collector, programs: Programs, tmp_path: Path) -> None:
    """A program on a FUSE mount that hangs times out; others are hashed meanwhile; the collector ends as ever."""
    mount = tmp_path / "mount"
    mount.mkdir()
    server = subprocess.Popen(
        [programs("deadfs"), mount, programs("hold")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        assert server.stdout.read(1) == b"."
        with held(mount / "file"), stopped(collector):
            server.stdin.write(b"!")
            server.stdin.flush()
            assert server.stdout.read(1) == b"!"
            os.kill(collector.pid, signal.SIGCONT)
            others = [copy(programs, tmp_path / f"other{number}", b"%d" % number) for number in range(200)]
            for other in others:
                run(other)
            for other in others:
                assert result(execution(collector, other)) == (md5(other), "verified")
            assert not executions(collector, mount / "file")()
            assert result(execution(collector, mount / "file")) == ("-1", "timeout")
            server.stdin.close()
            server.wait()


def test_new_files(collector: Collector, tmp_path: Path) -> None:
    """A new file has the digest of all that was written until it was closed, by whatever descriptor; or it is open."""
    short, later, kept = tmp_path / "short", tmp_path / "later", tmp_path / "kept"
    short.write_bytes(b"short")
    script = 'exec 3>"$0"; exec 7>&3 3>&-; echo one >&7; read line; echo two >&7; exec 7>&-; read line'
    with subprocess.Popen(["sh", "-c", script, later], stdin=subprocess.PIPE) as writer, kept.open("wb") as file:
        assert writer.stdin is not None
        file.write(b"kept")
        file.flush()
        assert result(creation(collector, short)) == (hashlib.md5(b"short").hexdigest(), "verified")  # noqa: S324
        writer.stdin.write(b"\n")
        writer.stdin.flush()
        assert result(creation(collector, later)) == (hashlib.md5(b"one\ntwo\n").hexdigest(), "verified")  # noqa: S324
        assert result(creation(collector, kept)) == ("-1", "open")


_OVERLAY = "mkdir top/upper top/work; mount -t overlay none -o lowerdir=lower,upperdir=top/upper,workdir=top/work"
MOUNTS = {
    "disk": "",
    "tmpfs": "mount -t tmpfs none mnt",
    "overlay": f"{_OVERLAY} mnt",
    "overlay-of-two": f"mount -t tmpfs none top; {_OVERLAY},xino=off mnt",
    "overlay-of-two-xino": f"mount -t tmpfs none top; {_OVERLAY},xino=on mnt",
}


@pytest.fixture(params=MOUNTS)
def mounted(request: pytest.FixtureRequest, tmp_path: Path, programs: Programs) -> Iterator[Path]:
    """A folder of that file system, for a collector that ends first; in an overlay's lower layer there is a program."""
    for name in ("lower", "top", "mnt"):
        (tmp_path / name).mkdir()
    copy(programs, tmp_path / "lower" / "program", b"below")
    try:
        run("sh", "-ec", MOUNTS[request.param], cwd=tmp_path)
        yield tmp_path / "mnt"
    finally:
        for name in ("mnt", "top"):
            if os.path.ismount(tmp_path / name):
                run("umount", tmp_path / name)


def written(path: Path) -> int:
    """A new file with its name in it. No Python file, which asks for its times: the next one would have others."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, path.name.encode())
    return fd


def test_new_files_of_one_moment(mounted: Path, collector: Collector) -> None:
    """Of files that were created at once, one after the other by one descriptor, none is taken for another."""
    paths = [mounted / str(number) for number in range(20)]
    with stopped(collector):
        for path in paths[:-1]:
            os.close(written(path))
        last = written(paths[-1])
    told = [result(creation(collector, path)) for path in paths[:-1]]
    os.close(last)
    assert told == [(hashlib.md5(path.name.encode()).hexdigest(), "verified") for path in paths[:-1]]  # noqa: S324


def test_programs_of_every_layer(mounted: Path, collector: Collector, programs: Programs) -> None:
    """A program has its own digest wherever it lies, below, above, or copied from below to above."""
    above = copy(programs, mounted / "above", b"above")
    below = mounted / "program"
    layers = [above, below] if below.exists() else [above]
    for path in layers:
        run(path)
        assert result(execution(collector, path)) == (md5(path), "verified")
    for path in layers:
        path.write_bytes(path.read_bytes() + b"more")
        run(path, "again")
    events = collector.wait_for(lambda event: event["data_type"] == "59" and "again" in event["argv"], len(layers))
    assert [result(event) for event in events] == [(md5(path), "verified") for path in layers]


def test_new_files_with_one_number(collector: Collector, tmp_path: Path) -> None:
    """A file whose inode number was another's just before is not taken for it."""
    path = tmp_path / "file"
    with stopped(collector):
        for number in range(50):
            path.unlink(missing_ok=True)
            path.write_bytes(b"%d" % number)
    until(lambda: len(creations(collector, path)) == 50, "50 creations")
    *former, last = map(result, creations(collector, path))
    assert set(former) <= {("-1", "gone"), ("-1", "changed")}
    assert last == (hashlib.md5(b"49").hexdigest(), "verified")  # noqa: S324
