# SPDX-License-Identifier: GPL-2.0-or-later
"""Who becomes root, and by what."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.live.becoming import AS_USER, USER, become, installed
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.forms import at_function
from tests.live.kernel_module import inserted
from tests.live.views import caused_by

UPDATE_CRED = 604
HOSTILE = b'su do\n\xff"'


@pytest.fixture
def helper(programs: Programs, place: Path) -> Path:
    """A set-user-ID program of root's."""
    return installed(programs("become"), place / "helper", 0o4755)


def told(collector: Collector, pid: int) -> list[Event]:
    return caused_by(collector.sync(), pid, UPDATE_CRED)


@pytest.mark.guest("update_cred")
@pytest.mark.parametrize("call", ["setuid:0", "setreuid:0,0", "setresuid:0,0,0", "setresuid:0,-1,-1"])
def test_a_helper_becomes_root(call: str, helper: Path, collector: Collector) -> None:
    """A set-user-ID helper that takes root's real id is told once, whatever it calls itself, with who it was."""
    pid, ids = become(*AS_USER, helper, HOSTILE, "setuid:-1", call)
    assert ids == [[USER, 0], [0, 0]]
    [event] = told(collector, pid)
    assert (event["uid"], event["old_uid"], event["old_euid"], event["res"]) == ("0", str(USER), "0", "0")
    assert (event["exe"], event["user"], event["tgid"]) == (str(helper), "root", str(pid))
    assert event["ppid"] == str(os.getpid())
    assert event["pid_tree"].endswith(f"->{pid}(helper)")
    assert event["comm"] == 'su do\n\uefff"'


@pytest.mark.guest("update_cred", silent=True)
def test_who_does_not_become_root(helper: Path, programs: Programs, collector: Collector) -> None:
    """Root that stays root or ceases to be it, a refused or an idle call, and effective ids alone are not told."""
    plain = installed(programs("become"), helper.parent / "plain", 0o755)
    silent = (
        ((plain, "a", "setuid:0", "setresuid:0,0,0"), [0, 0]),
        ((plain, "b", f"setresuid:{USER},{USER},{USER}"), [USER, USER]),
        ((*AS_USER, plain, "c", f"setuid:{USER}", "setuid:0", "setreuid:0,0"), [USER, USER]),
        ((*AS_USER, helper, "d", f"setresuid:-1,{USER},-1", "setresuid:-1,0,-1"), [USER, 0]),
    )
    for command, last in silent:
        pid, ids = become(*command)
        assert ids[-1] == last
        assert told(collector, pid) == []


@pytest.mark.guest("update_cred")
@pytest.mark.needs("test_module")
def test_the_kernel_makes_root(programs: Programs, place: Path, attach: str | None, collector: Collector) -> None:
    """Root that a module gives by commit_creds() is told where that is seen; what it writes over is told nowhere."""
    plain = installed(programs("become"), place / "plain", 0o755)
    with inserted():
        given, ids = become(*AS_USER, plain, "x", "commit")
        taken, others = become(*AS_USER, plain, "x", "overwrite")
    assert ids == others == [[0, 0]]
    events = told(collector, given)
    if at_function("update_cred", attach):
        assert [(e["uid"], e["old_uid"], e["old_euid"], e["exe"]) for e in events] == [
            ("0", str(USER), str(USER), str(plain))
        ]
    else:
        assert events == []
    assert told(collector, taken) == []


def test_root_of_a_user_namespace(programs: Programs, place: Path, collector: Collector) -> None:
    """Who is root in a user namespace only has not become root."""
    plain = installed(programs("become"), place / "plain", 0o755)
    pid, ids = become(*AS_USER, "unshare", "--user", "--map-root-user", plain, "in", "setuid:0", "setresuid:0,0,0")
    assert ids == [[0, 0], [0, 0]]
    assert told(collector, pid) == []


def test_root_again_is_told_again(helper: Path, collector: Collector) -> None:
    """Who lays root's real id down and takes it up again is told each time."""
    pid, ids = become(*AS_USER, helper, "twice", "setresuid:0,0,0", f"setresuid:{USER},{USER},0", "setresuid:0,0,0")
    assert ids == [[0, 0], [USER, USER], [0, 0]]
    assert [event["old_euid"] for event in told(collector, pid)] == ["0", str(USER)]


def test_an_expected_helper(helper: Path, tmp_path: Path) -> None:
    """The one helper that the configuration names is left out, by what it is; a copy of it is told all the same."""
    copy = installed(helper, helper.parent / "copy", stat.S_IMODE(helper.stat().st_mode))
    with Collector(tmp_path, {"filters": {"become_root": [str(helper)]}}) as collector:
        expected, _ids = become(*AS_USER, helper, "sudo", "setuid:0")
        strange, _ids = become(*AS_USER, copy, "sudo", "setuid:0")
        assert told(collector, expected) == []
        assert [event["exe"] for event in told(collector, strange)] == [str(copy)]
        assert caused_by(collector.events, expected)  # what else it did is told
        outcome = collector.stop()
    assert outcome.kind("update_cred")["filtered"] >= 1
    outcome.check()
