# SPDX-License-Identifier: GPL-2.0-or-later
"""Executions that fail or take an unusual way, and processes with threads."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import run, until
from tests.live.views import EXECVE, EXIT, caused_by


def execution(collector: Collector, mark: str) -> Event:
    """The one execution with that mark among its arguments."""
    [event] = [event for event in collector.sync() if event["data_type"] == "59" and mark in event["argv"].split()]
    return event


def of_process(collector: Collector, pid: int) -> dict[str, list[Event]]:
    """The events that the process caused, by data_type."""
    events: dict[str, list[Event]] = {"59": [], "60": [], "801": []}
    for event in caused_by(collector.sync(), pid):
        events.setdefault(event["data_type"], []).append(event)
    return events


def absent(folder: Path) -> Path:
    return folder / "absent"


def forbidden(folder: Path) -> Path:
    path = folder / "forbidden"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o600)
    return path


def garbage(folder: Path) -> Path:
    path = folder / "garbage"
    path.write_bytes(bytes(range(1, 256)))
    path.chmod(0o700)
    return path


def below_a_file(folder: Path) -> Path:
    return garbage(folder) / "program"


def too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


FAILURES = {
    absent: errno.ENOENT,
    forbidden: errno.EACCES,
    garbage: errno.ENOEXEC,
    below_a_file: errno.ENOTDIR,
    too_long: errno.ENAMETOOLONG,
}


@pytest.mark.guest("execve")
@pytest.mark.parametrize("make", FAILURES)
def test_an_execution_that_fails(make: object, collector: Collector, tmp_path: Path) -> None:
    """A failed execve tells its errno, the file and the arguments as asked for, and who asked."""
    assert callable(make)
    path, number = make(tmp_path), FAILURES[make]
    mark = f"failing-{number}"
    with pytest.raises(OSError, match=os.strerror(number)):
        subprocess.run([path, mark, "", "three words here"], check=True)
    event = execution(collector, mark)
    assert (event["res"], event["filename"]) == (str(-number), str(path))
    assert event["argv"] == f"{path} {mark}  three words here "
    assert (event["exe"], event["ppid"]) == (os.path.realpath(sys.executable), str(os.getpid()))
    assert event["run_path"] == str(Path.cwd())


@pytest.mark.parametrize(
    "arguments", [["x"] * 300, ["x" * 5_000], ["x" * 4_000] * 20, ["x"] * 255], ids=["many", "long", "much", "just"]
)
def test_a_failure_with_many_arguments(arguments: list[str], collector: Collector, tmp_path: Path) -> None:
    """Of a failed execve's arguments the beginning is told, and that something was cut, if it was."""
    path = str(tmp_path / "absent")
    with pytest.raises(FileNotFoundError):
        subprocess.run([path, *arguments], check=True)
    [event] = [
        event for event in collector.sync() if event["data_type"] == "59" and event["argv"].startswith(f"{path} ")
    ]
    whole = " ".join([path, *arguments, ""])
    assert whole.startswith(event["argv"].removesuffix(" "))
    assert len(event["argv"]) >= min(len(whole), 512)
    assert (event["argv"] == whole) is (event.get("argv_truncated") is None)


def test_an_address_that_cannot_be_read(programs: Programs, collector: Collector) -> None:
    """A file name at a wild address is told as cut, with the errno."""
    with subprocess.Popen([programs("execat"), "wild"]) as process:
        assert process.wait() == errno.EFAULT
    failed = of_process(collector, process.pid)["59"][1]
    assert (failed["res"], failed["filename"]) == (str(-errno.EFAULT), "-1")
    assert failed["filename_truncated"] == "1"
    assert failed["argv"] == f"{programs('execat')} wild "


@pytest.mark.guest("execve")
def test_execveat(programs: Programs, collector: Collector) -> None:
    """execveat below a descriptor tells the real path; when it fails, the name as asked for."""
    execat, nop = programs("execat"), programs("nop")
    with subprocess.Popen([execat, "at", nop.parent, "nop", "by-execveat", "second"]) as process:
        assert process.wait() == 0
    event = of_process(collector, process.pid)["59"][1]
    assert (event["res"], event["exe"], event["argv"]) == ("0", str(nop), "by-execveat second ")
    assert event["filename"].endswith("/nop")
    with subprocess.Popen([execat, "at", nop.parent, "absent", "failing-execveat"]) as process:
        assert process.wait() == errno.ENOENT
    failed = of_process(collector, process.pid)["59"][1]
    assert (failed["res"], failed["filename"]) == (str(-errno.ENOENT), "absent")
    assert (failed["exe"], failed["argv"]) == (str(execat), "failing-execveat ")


def test_a_descriptor_is_executed(programs: Programs, collector: Collector) -> None:
    """fexecve tells the path of the file behind the descriptor; of a file in memory, its name."""
    execat, nop = programs("execat"), programs("nop")
    for how, path in (("file", str(nop)), ("memory", "memfd:made up\n")):
        with subprocess.Popen([execat, how, nop, "by-descriptor"]) as process:
            assert process.wait() == 0
        event = of_process(collector, process.pid)["59"][1]
        assert (event["res"], event["exe"], event["argv"]) == ("0", path, "by-descriptor ")


def test_a_script(collector: Collector, tmp_path: Path) -> None:
    """Of a script the file name is the script, the executable its interpreter, the arguments the interpreter's."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\ntrue\n")
    script.chmod(0o700)
    run(script, "a-script")
    event = execution(collector, "a-script")
    assert (event["filename"], event["exe"]) == (str(script), os.path.realpath("/bin/sh"))
    assert event["argv"] == f"/bin/sh -e {script} a-script "


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("quiet", 0)])
def test_the_leader_ends_first(how: str, code: int, programs: Programs, collector: Collector) -> None:
    """A process whose first thread ends before the others ends once, when the last one does; no thread is a fork."""
    with subprocess.Popen([programs("threads"), how]) as process:
        assert process.wait() == code
    told = of_process(collector, process.pid)
    assert [(event["exit_code"], event["signal"]) for event in told["60"]] == [(str(code), "0")]
    assert (len(told["59"]), told["801"]) == (1, [])


def test_a_thread_executes(programs: Programs, collector: Collector) -> None:
    """A thread that executes a program becomes the process: one more execution under its id, and one exit."""
    nop = programs("nop")
    with subprocess.Popen([programs("threads"), "exec", nop, "by-thread"]) as process:
        assert process.wait() == 0
    told = of_process(collector, process.pid)
    assert [event["exe"] for event in told["59"]] == [str(programs("threads")), str(nop)]
    assert [event["pid"] for event in told["59"]] == [str(process.pid)] * 2
    assert ([event["exe"] for event in told["60"]], told["801"]) == ([str(nop)], [])


@pytest.mark.guest("execve", "fork", "exit", silent=True)
def test_threads_come_and_go(programs: Programs, collector: Collector) -> None:
    """64 threads are neither forks nor exits."""
    with subprocess.Popen([programs("threads"), "crowd"]) as process:
        assert process.wait() == 0
    told = of_process(collector, process.pid)
    assert (len(told["59"]), len(told["60"]), len(told["801"])) == (1, 1, 0)


@pytest.mark.guest("fork")
def test_the_name_of_a_thread_is_told(collector: Collector) -> None:
    """A name that a process gave itself is told as it is, in its fork's event and in the tree."""
    name = 'a"b\\\n\x17\x1e)é'
    code = f"import os; open('/proc/self/comm', 'wb').write({name.encode()!r}); os.wait() if os.fork() else 0"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        assert process.wait() == 0
    [fork] = of_process(collector, process.pid)["801"]
    assert fork["comm"] == name
    [child] = [event for event in collector.events if event["data_type"] == "60" and event["pid"] == fork["child_pid"]]
    assert child["pid_tree"].endswith(f"->{child['pid']}({name})")
    assert stat.S_ISREG(os.stat(child["exe"]).st_mode)


ENDS = {
    "exit 0": ("0", "0"),
    "exit 3": ("3", "0"),
    "exit 256": ("0", "0"),
    "exit 255": ("255", "0"),
    "kill -9 $$": ("0", "9"),
    "kill -11 $$": ("0", "11"),
    "kill -15 $$": ("0", "15"),
    "kill -34 $$": ("0", "34"),
}


@pytest.mark.guest("exit")
@pytest.mark.parametrize("command", ENDS)
def test_how_a_process_ends(command: str, collector: Collector) -> None:
    """An exit event has the exit code as wait(2) has it, or else the signal."""
    with subprocess.Popen(["bash", "-c", command]) as process:
        process.wait()
    ended = of_process(collector, process.pid)["60"]
    assert [(event["exit_code"], event["signal"]) for event in ended] == [ENDS[command]]


def test_an_id_that_is_used_again(programs: Programs, collector: Collector) -> None:
    """Two processes with the same id, one after the other, are two: each with its own executable, tree and entity."""
    nop, hold = programs("nop"), programs("hold")
    last = Path("/proc/sys/kernel/ns_last_pid")

    def same_id() -> int | None:
        with subprocess.Popen([nop]) as first:
            first.wait()
        last.write_text(str(first.pid - 1))
        with subprocess.Popen([hold], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as second:
            second.wait()
        return first.pid if first.pid == second.pid else None

    pid = str(until(same_id, "an id that is used again"))
    ends = {str(EXECVE), str(EXIT)}
    events = [event for event in collector.sync() if event.get("pid") == pid and event["data_type"] in ends][-4:]
    assert [event["exe"] for event in events] == [str(nop), str(nop), str(hold), str(hold)]
    names = [event["pid_tree"].rpartition("->")[2] for event in events]
    assert names == [f"{pid}(nop)"] * 2 + [f"{pid}(hold)"] * 2
    assert len({event["entity_id"] for event in events}) == 2
