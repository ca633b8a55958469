# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules that are loaded and refused."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from tests.live.calls import DELETE_MODULE, FINIT_MODULE, call
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.kernel_module import NAME, built
from tests.live.tools import LIMIT_S
from tests.live.views import caused_by

pytestmark = pytest.mark.needs("modules", "test_module")

LOAD_MODULE = 603
OUT_OF_TREE, UNSIGNED = 1 << 12, 1 << 13
NOBODY = 65_534


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module, in a file with a name that is no good one."""
    path = tmp_path_factory.mktemp("module") / f'{NAME.decode()}.\n\u00ff ".ko'
    path.write_bytes(built().read_bytes())
    return path


def insmod(program: Path, how: str, path: Path, *user: str) -> tuple[int, int, int]:
    """Load; gives the process id, the descriptor and the errno."""
    with subprocess.Popen([program, how, path, *user], stdout=subprocess.PIPE, cwd=path.parent) as process:
        said = process.communicate(timeout=LIMIT_S)[0]
        assert process.returncode == 0
    descriptor, code = map(int, said.split())
    return process.pid, descriptor, code


def told(collector: Collector, pid: int) -> list[Event]:
    return caused_by(collector.sync(), pid, LOAD_MODULE)


@pytest.mark.guest("load_module")
def test_a_module_from_a_file(module: Path, programs: Programs, collector: Collector) -> None:
    """A module that is loaded is told once, with its name, the very file and its hash, and who loaded it from where."""
    pid, descriptor, code = insmod(programs("insmod"), "file", module)
    assert code == 0
    [event] = told(collector, pid)
    assert (event["module_name"], event["lkm_file"], event["res"]) == (NAME.decode(), str(module), "0")
    assert (event["fd"], event["run_path"]) == (str(descriptor), str(module.parent))
    assert int(event["taints"]) == OUT_OF_TREE | UNSIGNED
    digest = hashlib.md5(module.read_bytes(), usedforsecurity=False).hexdigest()
    assert (event["load_file_md5"], event["load_file_hash_status"]) == (digest, "verified")
    assert (event["exe"], event["comm"], event["uid"]) == (str(programs("insmod")), "insmod", "0")
    assert event["pid_tree"].endswith(f"->{pid}(insmod)")


@pytest.mark.guest("load_module", silent=True)
def test_what_loads_no_module(module: Path, collector: Collector) -> None:
    """A module's file that is read or mapped, and a module that is asked for or removed, are no event."""
    before = told(collector, os.getpid())
    with module.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[:4] == b"\x7fELF"
    call(DELETE_MODULE, b"hookline_none", os.O_NONBLOCK, fails=errno.ENOENT)
    assert told(collector, os.getpid()) == before


@pytest.mark.guest("load_module")
def test_a_module_from_memory(module: Path, programs: Programs, collector: Collector) -> None:
    """A module from memory is told by its own name, and to have no file."""
    pid, _descriptor, code = insmod(programs("insmod"), "memory", module)
    assert code == 0
    [event] = told(collector, pid)
    assert (event["module_name"], event["lkm_file"], event["fd"], event["res"]) == (NAME.decode(), "-1", "-1", "0")
    assert (event["load_file_md5"], event["load_file_hash_status"]) == ("-1", "-1")


@pytest.mark.guest("load_module")
def test_a_module_that_does_not_start(module: Path, collector: Collector) -> None:
    """A module whose own start fails is told before it runs, and then with its errno."""
    with module.open("rb") as file:
        call(FINIT_MODULE, file.fileno(), b"refuse=1", 0, fails=errno.EIO)
    events = told(collector, os.getpid())[-2:]
    assert [(event["res"], event["lkm_file"]) for event in events] == [("0", str(module)), ("-5", str(module))]


@pytest.mark.guest("load_module")
@pytest.mark.parametrize("how", ["file", "memory"])
def test_what_is_refused(how: str, programs: Programs, collector: Collector, tmp_path: Path) -> None:
    """What is no module, and who may load none, is told with the errno and the file."""
    garbage = tmp_path / "garbage.ko"
    garbage.write_bytes(os.urandom(4096))
    for user, wanted in (((), errno.ENOEXEC), ((str(NOBODY),), errno.EPERM)):
        pid, _descriptor, code = insmod(programs("insmod"), how, garbage, *user)
        assert code == wanted
        [event] = told(collector, pid)
        assert (event["res"], event["module_name"]) == (str(-wanted), "-1")
        assert event["lkm_file"] == (str(garbage) if how == "file" else "-1")
