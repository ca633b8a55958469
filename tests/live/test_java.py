# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that Java programs start, with each JDK that is installed, and each way that a JDK has."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector, Event, files_watched
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, run, until
from tests.live.views import EXECVE, JAVA_EXEC, arguments_match, caused_by, truncated, value

MODES = {"FORK": "1", "POSIX_SPAWN": "2", "VFORK": "3"}

HOMES = sorted({Path(library).resolve().parents[1] for library in Path("/usr/lib/jvm").glob("*/lib/libjava.so")})
"""The JDKs of this host."""

needs_jdk = pytest.mark.skipif(
    not HOMES or shutil.which("javac") is None,
    reason="no JDK is installed: apt-get install openjdk-17-jdk-headless",
)


@pytest.fixture(scope="module")
def classes(programs: Programs) -> Path:
    """The folder of Starter.class."""
    return programs.java("Starter")


@pytest.fixture(scope="module")
def collector(collector: Collector) -> Collector:
    """One that has found the JDKs of this host."""
    until(lambda: files_watched(collector).count("libjava") >= len(HOMES), "the JDKs")
    return collector


class Java:
    """A running Java program that starts others."""

    def __init__(self, home: Path, classes: Path, *options: str) -> None:
        self.home = home
        command: list[str | Path] = [
            home / "bin/java",
            "-Xshare:auto",
            "-XX:TieredStopAtLevel=1",
            *options,
            "-cp",
            classes,
            "Starter",
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        return self.process.pid

    def start(self, how: str, *arguments: str) -> str:
        """What Java says of the process: its id, or the error."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join([how, *map(quote, arguments)]).encode() + b"\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().rstrip("\n")

    def close(self) -> None:
        self.process.communicate(timeout=LIMIT_S)


@pytest.fixture(scope="module", params=[(home, mode) for home in HOMES for mode in MODES], ids=str)
def java(request: pytest.FixtureRequest, classes: Path, collector: Collector) -> Iterator[tuple[Java, str]]:
    """A Java program of each JDK, in each mode; and the mode's number."""
    home, mode = request.param
    found = Java(home, classes, f"-Djdk.lang.Process.launchMechanism={mode}")
    yield found, MODES[mode]
    found.close()


def last(collector: Collector, java: Java) -> Event:
    """What that program did last."""
    return caused_by(collector.sync(), java.pid, JAVA_EXEC)[-1]


def executed(collector: Collector, pid: int) -> Event:
    """The last successful execution of a process, as the kernel tells it."""
    return [event for event in caused_by(collector.events, pid, EXECVE) if event["res"] == "0"][-1]


@pytest.mark.guest("java_exec")
@needs_jdk
@pytest.mark.parametrize("how", ["runtime", "line", "builder"])
def test_a_process(how: str, java: tuple[Java, str], collector: Collector) -> None:
    """One process started is one event: argv, path, mode, child and Java process, as the child's execution tells."""
    program, mode = java
    before = len(caused_by(collector.sync(), program.pid, JAVA_EXEC))
    child = int(program.start(how, "/bin/true", "one", "--two=3"))
    [event] = caused_by(collector.sync(), program.pid, JAVA_EXEC)[before:]
    assert (event["res"], event["mode"], event["child_tgid"]) == ("0", mode, str(child))
    assert (event["command"], event["exe"]) == ("/bin/true", str(program.home / "bin/java"))
    assert arguments_match(event, [b"/bin/true", b"one", b"--two=3"])
    assert not truncated(event)
    execution = executed(collector, child)
    assert execution["argv"] == event["argv"]
    assert execution["entity_id"].endswith(f"-{event['child_tgid']}-{event['child_start_time']}")


@needs_jdk
def test_along_the_path(java: tuple[Java, str], collector: Collector) -> None:
    """A program without a folder is told by the path at which it was found, and by the name that Java gave."""
    program, _mode = java
    child = int(program.start("builder", "true", "x"))
    event = last(collector, program)
    assert Path(event["command"]).is_file()
    assert os.path.samefile(event["command"], "/bin/true")
    assert arguments_match(event, [b"true", b"x"])
    assert (event["res"], event["child_tgid"]) == ("0", str(child))


@needs_jdk
@pytest.mark.parametrize(("path", "code"), [("/no/such/program", 2), ("/etc/passwd", 13)])
def test_failures(path: str, code: int, java: tuple[Java, str], collector: Collector) -> None:
    """A program that cannot be executed is told with the error that Java reports, and the arguments."""
    program, mode = java
    said = program.start("builder", path, "x")
    assert f"error={code}" in said or f"Exec failed, error: {code}" in said
    event = last(collector, program)
    assert (event["res"], event["mode"], event["command"]) == (str(-code), mode, path)
    assert arguments_match(event, [path.encode(), b"x"])
    assert event["child_tgid"] != "0"


HOSTILE = ['"},{"data_type":"59', "a\nb\x1b[31m", "äöü ☃ 日本", "", " "]


@needs_jdk
def test_hostile_arguments(java: tuple[Java, str], collector: Collector) -> None:
    """Whatever Java passes is told byte by byte, and shifts no field."""
    program, _mode = java
    child = int(program.start("builder", "/bin/true", *HOSTILE))
    event = last(collector, program)
    assert arguments_match(event, [b"/bin/true", *(each.encode() for each in HOSTILE)])
    assert event["child_tgid"] == str(child)


@needs_jdk
def test_too_many_arguments(java: tuple[Java, str], collector: Collector) -> None:
    """Of more than 128 arguments, and of one of over 4,095 bytes, the first are told, and that it is cut."""
    program, _mode = java
    program.start("builder", "/bin/true", *map(str, range(200)))
    event = last(collector, program)
    assert arguments_match(event, [b"/bin/true", *(b"%d" % number for number in range(127))])
    assert truncated(event) == {"argv"}
    program.start("builder", "/bin/true", "z" * 9000, "after")
    event = last(collector, program)
    argv = to_bytes(value(event, "argv"))
    assert argv == b"/bin/true " + b"z" * 4095 + b" "
    assert truncated(event) == {"argv"}


@needs_jdk
def test_threads_at_once(java: tuple[Java, str], collector: Collector) -> None:
    """Of 20 threads that start a process at once, each event has its own child and its own arguments."""
    program, _mode = java
    before = len(caused_by(collector.sync(), program.pid, JAVA_EXEC))
    children = program.start("crowd", "20").split()
    events = caused_by(collector.sync(), program.pid, JAVA_EXEC)[before:]
    assert len(events) == 20
    assert {(event["child_tgid"], event["argv"]) for event in events} == {
        (child, f"/bin/true {number} ") for number, child in enumerate(children)
    }
    assert len({event["pid"] for event in events}) == 20


@pytest.mark.guest("java_exec", silent=True)
@needs_jdk
def test_what_starts_nothing(classes: Path, collector: Collector) -> None:
    """A Java program that starts no process is not told, nor are processes that others start."""
    program = Java(HOMES[0], classes)
    program.close()
    shell = subprocess.Popen(["sh", "-c", "true; /bin/true x"])
    shell.wait()
    collector.sync()
    assert caused_by(collector.events, program.pid, JAVA_EXEC) == []
    assert caused_by(collector.events, shell.pid, JAVA_EXEC) == []


@needs_jdk
def test_a_jdk_that_appears(classes: Path, collector: Collector, tmp_path: Path) -> None:
    """A Java runtime that is put at a place of its own is found when it begins to run."""
    jlink = next((home / "bin/jlink" for home in HOMES if (home / "bin/jlink").exists()), None)
    if jlink is None:
        pytest.skip("no JDK here has jlink")
    home = tmp_path / "runtime"
    run(jlink, "--add-modules", "java.base", "--output", home)
    library = str(home / "lib/libjava.so")
    program = Java(home, classes)
    until(lambda: library in {line.get("path") for line in collector.wait_for_log("watching a file")}, library)
    child = program.start("runtime", "/bin/true", "found")
    event = last(collector, program)
    assert (event["child_tgid"], event["exe"]) == (child, str(home / "bin/java"))
    program.close()
