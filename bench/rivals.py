# SPDX-License-Identifier: GPL-2.0-or-later
"""What else could watch the same: nothing, auditd, a bpftrace script; each for as long as a context lasts."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.collector import await_, collecting, to_a_file
from pipeline.config import ConfigError

_PATIENCE_S = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SETTLE_S = 0.5
_IDLE_S = 0.05
"""CPU seconds in that time of one that has nothing to do."""

_CALLS = (
    "execve", "execveat", "connect", "rename", "renameat", "renameat2", "link", "linkat", "ptrace", "setsid",
    "memfd_create", "bpf", "mount",
)  # fmt: skip
"""System calls that the default probes tell of. The rest of what they see has no system call of its own."""


@dataclass
class Rival:
    """One that watches."""

    pid: int = 0
    """0: nobody."""

    lost: int = 0
    """Events that it did not get; counted at the end."""

    trouble: str = ""
    """What went wrong at the end, where what it cost until then counts all the same."""

    def cpu_s(self) -> float:
        """User and system time so far."""
        if not self.pid:
            return 0.0
        stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS

    def settle(self) -> None:
        """Return when it has nothing to do any more: what it does late counts as well. At most 30 s."""
        deadline = time.monotonic() + _PATIENCE_S
        before, now = -math.inf, self.cpu_s()
        while self.pid and now - before > _IDLE_S and time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
            before, now = now, self.cpu_s()

    def peak_kib(self) -> int:
        """The most memory that was resident."""
        if not self.pid:
            return 0
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        found = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
        return int(found[1]) if found else 0


Watching = Callable[[Path], AbstractContextManager[Rival]]
"""Watches while the context lasts, and writes into the folder."""


@contextmanager
def nobody(_folder: Path) -> Iterator[Rival]:
    """No collector."""
    yield Rival()


@contextmanager
def hookline(folder: Path) -> Iterator[Rival]:
    """`hookline run` with its default probes, to a file."""
    config, listen = to_a_file(folder)
    rival = Rival()
    with collecting(config, listen) as collector:
        rival.pid = collector.process.pid
        yield rival
    rival.lost = collector.undelivered("file")


def _audit(*arguments: str) -> str:
    done = subprocess.run(["/usr/sbin/auditctl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"auditctl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _audit_status() -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)\b", _audit("-s"), re.MULTILINE)}


_RULES = (
    ("-S", ",".join(_CALLS)),
    ("-S", "openat", "-F", "a2&0100"),
    ("-S", "open", "-F", "a1&0100"),
    ("-S", "creat"),
)


@contextmanager
def auditd(folder: Path, rules: Sequence[Sequence[str]] = _RULES) -> Iterator[Rival]:
    """auditd with rules for these system calls; it writes `folder`/audit/audit.log.

    Raises:
        ConfigError: it is not there, another runs already, or this kernel has no audit.
    """
    if not shutil.which("auditd", path="/usr/sbin:/sbin"):
        raise ConfigError("auditd is not installed: apt-get install auditd")
    before = _audit_status()
    if before.get("pid") or "No rules" not in _audit("-l"):
        raise ConfigError("an audit daemon or audit rules are in use on this host, and stay as they are")
    log = folder / "audit"
    log.mkdir(mode=0o700)
    (folder / "auditd.conf").write_text(
        f"local_events = yes\nwrite_logs = yes\nlog_file = {log}/audit.log\nlog_format = RAW\n"
        "flush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 4096\nmax_log_file_action = IGNORE\n"
        "space_left = 75\nspace_left_action = IGNORE\nadmin_space_left = 50\nadmin_space_left_action = IGNORE\n"
        "disk_full_action = IGNORE\ndisk_error_action = IGNORE\n",
        encoding="ascii",
    )
    with ExitStack() as after:
        daemon = subprocess.Popen(
            ["/usr/sbin/auditd", "-n", "-c", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        after.callback(daemon.wait)
        after.callback(daemon.terminate)
        await_(lambda: _audit_status().get("pid") == daemon.pid, "auditd", _PATIENCE_S)
        after.callback(_audit, "-e", str(before["enabled"]))
        after.callback(_audit, "-b", str(before["backlog_limit"]))
        after.callback(_audit, "-D")
        _audit("-b", "65536")
        for rule in rules:
            _audit("-a", "always,exit", "-F", "arch=b64", *rule)
        rival = Rival(daemon.pid)
        yield rival
        await_(lambda: not _audit_status()["backlog"], "the end of auditd's backlog", _PATIENCE_S)
        rival.lost = _audit_status()["lost"] - before["lost"]


def _script() -> str:
    calls = ",\n".join(f"tracepoint:syscalls:sys_exit_{call}" for call in _CALLS if call != "mount")
    return (
        f'BEGIN {{ printf("ready\\n"); }}\n{calls}\n'
        '{ printf("%llu %d %d %d %s %d\\n", nsecs, pid, tid, uid, comm, args->ret); }\n'
        "tracepoint:syscalls:sys_enter_execve "
        '{ printf("%llu %d %s ", nsecs, pid, str(args->filename)); join(args->argv); }\n'
        "tracepoint:syscalls:sys_enter_openat /args->flags & 0100/ "
        '{ printf("%llu %d %s\\n", nsecs, pid, str(args->filename)); }\n'
        'tracepoint:sched:sched_process_exit { printf("%llu %d %s exit\\n", nsecs, pid, comm); }\n'
        'tracepoint:sched:sched_process_fork { printf("%llu %d fork %d\\n", nsecs, pid, args->child_pid); }\n'
    )


def lost_by_bpftrace(text: str) -> int:
    """What it says that it lost, in what it wrote; it says so amid what a line of the script prints, too."""
    return sum(int(count) for count in re.findall(r"Lost (\d+) events$", text, re.MULTILINE))


@contextmanager
def bpftrace(folder: Path) -> Iterator[Rival]:
    """A bpftrace script at the same hooks, which prints less of each: no paths, users or hashes.

    Raises:
        ConfigError: it is not there, or does not start.
    """
    if not shutil.which("bpftrace"):
        raise ConfigError("bpftrace is not installed: apt-get install bpftrace")
    script, events, said = folder / "script.bt", folder / "events", folder / "said"
    script.write_text(_script(), encoding="ascii")
    with said.open("wb") as errors:
        process = subprocess.Popen(["/usr/bin/bpftrace", "-o", str(events), str(script)], stdout=errors, stderr=errors)
    rival = Rival(process.pid)

    def is_ready() -> bool:
        if process.poll() is not None:
            raise ConfigError(f"bpftrace ended at once: {said.read_text(errors='replace').strip()[-300:]}")
        # It writes 8 KiB at a time: on a host where little happens, its first word would not come for minutes.
        subprocess.run(["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do /bin/true; done"], check=True)
        return events.exists() and b"ready" in events.read_bytes()[:4096]

    try:
        await_(is_ready, "bpftrace", _PATIENCE_S)
        yield rival
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                rival.trouble = f"did not end within {_PATIENCE_S:.0f} s of SIGINT: it may have lost more than it said"
            finally:
                process.kill()  # which does nothing where it has ended
                process.wait()
    text = said.read_text(errors="replace") + events.read_text(errors="replace")
    rival.lost = lost_by_bpftrace(text)


RIVALS: dict[str, Watching] = {"nobody": nobody, "hookline": hookline, "auditd": auditd, "bpftrace": bpftrace}
"""The first is what the others are compared with."""
