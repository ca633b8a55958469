# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that the kernel runs: the one for core dumps, named for a moment by the tests themselves."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S, until
from tests.live.views import EXECVE

USERMODEHELPER = 607
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
KERNELS_ROOT = next(root for root in (Path("/proc/2/root"), Path("/proc/1/root")) if any(root.iterdir()))
"""Where the kernel looks for what it runs: in the root of kthreadd, which may be another than the tests'. Where that is
empty for good (Linux 7.x), the kernel looks in the first process's."""

HOSTILE = b"\n\xff \"a' $b"


@pytest.fixture
def installed(programs: Programs) -> Iterator[Callable[[str], str]]:
    """Puts a program where the kernel finds it; gives its path there."""
    place = "/run" if os.path.ismount(KERNELS_ROOT / "run") else ""  # the root itself may be read-only
    folder = f"{place}/hookline-{os.getpid()}"
    (KERNELS_ROOT / folder[1:]).mkdir()

    def install(name: str) -> str:
        shutil.copy(programs(name), KERNELS_ROOT / folder[1:] / name)
        return f"{folder}/{name}"

    yield install
    shutil.rmtree(KERNELS_ROOT / folder[1:])


@pytest.fixture
def core_pattern() -> Iterator[Path]:
    """The file that says what becomes of a core dump; no other test changes it meanwhile. Then it is as it was."""
    with open("/var/tmp/hookline-core-pattern", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = CORE_PATTERN.read_bytes()
        yield CORE_PATTERN
        CORE_PATTERN.write_bytes(before)


def crash(program: Path, comm: bytes) -> int:
    """Have a process of that name die with a core dump; gives its id."""
    command: list[bytes | str | Path] = [program, comm, "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"%d waits\n" % process.pid
        process.send_signal(signal.SIGABRT)
        assert process.wait(LIMIT_S) == -signal.SIGABRT
    return process.pid


@pytest.mark.guest("usermodehelper")
def test_a_helper_of_the_kernel(
    installed: Callable[[str], str], programs: Programs, core_pattern: Path, collector: Collector
) -> None:
    """The helper for a core dump is told once, with hostile arguments; what it executes in turn is not told."""
    helper, nop = installed("become"), installed("nop")
    core_pattern.write_text(f"|{helper} x exec {nop} %P %e")
    pid = crash(programs("become"), HOSTILE)

    def second() -> list[Event]:
        return [each for each in collector.sync() if each["data_type"] == str(EXECVE) and each["exe"].endswith(nop)]

    [executed] = until(second, "the helper's own execution")
    [event] = [each for each in collector.events if each["data_type"] == str(USERMODEHELPER) and each["exe"] == helper]
    assert to_bytes(event["argv"]) == b"%s x exec %s %d %s " % (helper.encode(), nop.encode(), pid, HOSTILE)
    if event["wait"] == "-1":  # seen as the helper begins
        assert (event["tgid"], event["comm"]) == (executed["tgid"], "become")
        assert event["caller_exe"].endswith(helper)
    else:  # seen where it was asked for
        assert (event["tgid"], event["wait"]) == (str(pid), "1")
        assert event["caller_exe"] == str(programs("become"))


@pytest.mark.guest("usermodehelper", silent=True)
def test_what_people_run(programs: Programs, collector: Collector) -> None:
    """What a process runs is no helper of the kernel's."""
    subprocess.run([programs("nop"), "not-a-helper"], check=True)
    events = collector.sync()
    assert [each for each in events if "not-a-helper" in each.get("argv", "")]
    assert not [each for each in events if each["data_type"] == str(USERMODEHELPER) and "not-a-h" in each["argv"]]
