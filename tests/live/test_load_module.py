# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules that are loaded and refused; one of the running kernel's own."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import LIMIT_S
from tests.live.views import caused_by

pytestmark = pytest.mark.needs("modules")

LOAD_MODULE = 603
NAME = "dummy"
"""A module of every Debian kernel, which depends on none."""

FOLDERS = (os.environ.get("HOOKLINE_MODULES", ""), f"/lib/modules/{os.uname().release}")
NOBODY = 65_534


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module, in a file with a name that is no good one."""
    [found] = [path for folder in FOLDERS if folder for path in Path(folder).glob(f"kernel/drivers/net/{NAME}.ko*")][:1]
    content = found.read_bytes()
    path = tmp_path_factory.mktemp("module") / f'{NAME}.\n\u00ff ".ko'
    path.write_bytes(lzma.decompress(content) if found.suffix == ".xz" else content)
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


def test_a_module_from_a_file(module: Path, programs: Programs, collector: Collector) -> None:
    """A module that is loaded is told once, with its name, the very file and its hash, and who loaded it from where."""
    pid, descriptor, code = insmod(programs("insmod"), "file", module)
    assert code == 0
    [event] = told(collector, pid)
    assert (event["module_name"], event["lkm_file"], event["res"]) == (NAME, str(module), "0")
    assert (event["fd"], event["run_path"]) == (str(descriptor), str(module.parent))
    digest = hashlib.md5(module.read_bytes(), usedforsecurity=False).hexdigest()
    assert (event["load_file_md5"], event["load_file_hash_status"]) == (digest, "verified")
    assert (event["exe"], event["comm"], event["uid"]) == (str(programs("insmod")), "insmod", "0")
    assert event["pid_tree"].endswith(f"->{pid}(insmod)")


def test_a_module_from_memory(module: Path, programs: Programs, collector: Collector) -> None:
    """A module from memory is told by its own name, and to have no file."""
    pid, _descriptor, code = insmod(programs("insmod"), "memory", module)
    assert code == 0
    [event] = told(collector, pid)
    assert (event["module_name"], event["lkm_file"], event["fd"], event["res"]) == (NAME, "-1", "-1", "0")
    assert (event["load_file_md5"], event["load_file_hash_status"]) == ("-1", "-1")


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
