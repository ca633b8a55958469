# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a process stands: mounts, roots, folders, descriptors, names of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.test_executions import md5
from tests.live.test_processes import of_process
from tests.live.tools import run

PRIVATE_MOUNTS = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
"""A shell whose mounts nobody else sees, and which end with it."""


@contextmanager
def held(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that becomes the program `hold`: it lives as long as the context."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.read(1) == b"."
            yield process
        finally:
            process.stdin.close()
            process.wait()


def last_execution(collector: Collector, pid: int) -> Event:
    """What the process executed last."""
    return of_process(collector, pid)["59"][-1]


MOUNTS = {
    "tmpfs": "mount -t tmpfs none mnt",
    "bind": "mkdir other; mount --bind other mnt",
    "nested": "mount -t tmpfs none mnt; mkdir -p mnt/a/b; mount -t tmpfs none mnt/a; mkdir mnt/a/b; "
    "mount -t tmpfs none mnt/a/b; cd mnt/a/b; mkdir mnt",
    "moved": "mkdir first; mount -t tmpfs none first; mount --move first mnt; mkdir mnt/mnt; cd mnt",
    "overlay": "mkdir lower upper work; mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work mnt",
}


@pytest.mark.parametrize("mount", MOUNTS)
def test_paths_across_mounts(mount: str, programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """In a mount namespace of its own a process's executable, folder and new file have their whole path there."""
    hold = programs("hold")
    (tmp_path / "mnt").mkdir()
    script = f"cd '{tmp_path}'; {MOUNTS[mount]}; cd mnt; cp '{hold}' hold; pwd >&2; exec ./hold"
    with subprocess.Popen(
        [*PRIVATE_MOUNTS, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.read(1) != b".":
            reason = process.stderr.read().decode()
            pytest.skip(f"cannot mount {mount}: {reason}")
        where = process.stderr.readline().decode().strip()
        event = last_execution(collector, process.pid)
        process.stdin.close()
    assert where.startswith(str(tmp_path))
    assert (event["exe"], event["run_path"]) == (f"{where}/hold", where)
    assert (event["exe_md5"], event["exe_hash_status"]) == (md5(hold), "verified")
    created = {each["file_path"] for each in collector.events if each["data_type"] == "602"}
    assert f"{where}/hold" in created


def test_a_chroot(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """In a chroot paths are those of the host; the file name is what the caller said; the MD5 is verified."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    inside = root / "bin" / "hold"
    inside.write_bytes(programs("hold").read_bytes())
    inside.chmod(0o700)
    with held("chroot", root, "/bin/hold") as process:
        event = last_execution(collector, process.pid)
    assert (event["exe"], event["run_path"], event["filename"]) == (str(inside), str(root), "/bin/hold")
    assert (event["exe_md5"], event["exe_hash_status"]) == (md5(inside), "verified")


def test_a_folder_that_is_gone(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """A working directory that was removed is told by the path that it had; so is a program that removes itself."""
    folder = tmp_path / "gone"
    folder.mkdir()
    program = folder / "hold"
    program.write_bytes(programs("hold").read_bytes())
    program.chmod(0o700)
    digest = md5(program)
    script = f"cd '{folder}'; exec 9<./hold; rm hold; rmdir '{folder}'; exec /proc/self/fd/9"
    with held("sh", "-ec", script) as process:
        event = last_execution(collector, process.pid)
    assert (event["exe"], event["run_path"]) == (str(program), str(folder))
    assert (event["exe_md5"], event["exe_hash_status"]) == (digest, "verified")


@pytest.mark.parametrize(
    "change", ["rm {0}", "mv {0} {0}.old", "chmod 711 {0}", "ln {0} {0}.too", "cp {0} x; mv x {0}"]
)
def test_a_running_program_that_is_touched(
    change: str, programs: Programs, collector: Collector, tmp_path: Path
) -> None:
    """Renamed, removed or replaced, as an upgrade does it, a program keeps its path and its digest until its end."""
    program = tmp_path / "hold"
    program.write_bytes(programs("hold").read_bytes())
    program.chmod(0o700)
    digest = md5(program)
    with held(program) as process:
        assert last_execution(collector, process.pid)["exe_hash_status"] == "verified"
        run("sh", "-ec", change.format(program), cwd=tmp_path)
    [event] = of_process(collector, process.pid)["60"]
    assert (event["exe"], event["exe_md5"], event["exe_hash_status"]) == (str(program), digest, "verified")


def test_where_descriptors_lead(programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """stdin and stdout are told as /proc tells them: a path, pipe:[inode], socket:[inode], anon_inode:[eventfd]."""
    reading, writing = os.pipe()
    master, terminal = os.openpty()
    os.mkfifo(tmp_path / "fifo")
    numbers = {
        "file": os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT),
        "null": os.open(os.devnull, os.O_RDWR),
        "fifo": os.open(tmp_path / "fifo", os.O_RDWR),
        "pipe": writing,
        "unix": socket.socket(socket.AF_UNIX).detach(),
        "tcp": socket.socket(socket.AF_INET6).detach(),
        "event": os.eventfd(0),
        "terminal": terminal,
    }
    expected = {name: os.readlink(f"/proc/self/fd/{number}") for name, number in numbers.items()}
    try:
        for name, number in numbers.items():
            with subprocess.Popen([programs("nop"), name], stdin=number, stdout=number) as process:
                process.wait()
            event = last_execution(collector, process.pid)
            assert (event["stdin"], event["stdout"]) == (expected[name], expected[name])
    finally:
        for number in (reading, master, *numbers.values()):
            os.close(number)


def test_descriptors_that_are_closed(programs: Programs, collector: Collector) -> None:
    """Where stdin and stdout are closed, they are "-1"; so is the terminal of a process that has none."""
    script = 'exec setsid "$0" <&- >&-'
    with subprocess.Popen(["sh", "-c", script, programs("nop")]) as process:
        process.wait()
    event = last_execution(collector, process.pid)
    assert (event["stdin"], event["stdout"], event["tty_name"]) == ("-1", "-1", "-1")


def test_the_terminal(programs: Programs, collector: Collector) -> None:
    """A process with a controlling terminal tells its name."""
    master, terminal = os.openpty()
    try:
        with subprocess.Popen(["setsid", "--ctty", programs("nop")], stdin=terminal) as process:
            process.wait()
        event = last_execution(collector, process.pid)
        assert event["tty_name"] == os.ttyname(terminal).removeprefix("/dev/").replace("/", "")
    finally:
        os.close(master)
        os.close(terminal)


def test_a_node_name_of_its_own(collector: Collector) -> None:
    """The node name is that of the process's UTS namespace, byte for byte, and the host name is the host's."""
    name = b'a"b\\\n\xff\x1e' + b"x" * 20
    code = f"""
import ctypes, os, socket
if ctypes.CDLL(None, use_errno=True).unshare(0x04000000):
    raise OSError(ctypes.get_errno())
socket.sethostname({name!r})
os.execvp("true", ["true"])
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert process.wait() == 0
    event = last_execution(collector, process.pid)
    assert to_bytes(event["nodename"]) == name
    assert event["hostname"] == socket.gethostname()


def test_a_pid_namespace(programs: Programs, collector: Collector) -> None:
    """In a pid namespace of its own a process is told by its id on the host, and its executable is hashed."""
    hold = programs("hold")
    with held("unshare", "--pid", "--fork", "--kill-child", hold) as outer:
        [child] = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        event = last_execution(collector, int(child))
    assert (event["exe"], event["ppid"]) == (str(hold), str(outer.pid))
    assert event["exe_md5"] == md5(hold)
