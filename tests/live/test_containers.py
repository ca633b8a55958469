# SPDX-License-Identifier: GPL-2.0-or-later
"""Containers: real ones, and cgroups that are named like some."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.event import CGROUP_V1
from tests.live.collector import Collector, Event
from tests.live.conftest import Programs
from tests.live.tools import run

NOBODY = 65_534
PARENT = f"hookline-podman-{os.getpid()}"


def mounts() -> Iterator[tuple[str, str, Path]]:
    """Kind, options and place of every cgroup file system."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        if kind in {"cgroup", "cgroup2"}:
            yield kind, options, Path(before.split(" ")[4])


def hierarchies() -> dict[str, Path]:
    """Where cgroups can be made: of version 2, and of the pids controller of version 1."""
    found: dict[str, Path] = {}
    for kind, options, place in mounts():
        if kind == "cgroup2":
            found["v2"] = place
        elif "pids" in options.split(","):
            found["v1"] = place
    return found


@contextmanager
def cgroup(mount: Path, *names: str) -> Iterator[Path]:
    """A cgroup of these names, one below the other."""
    path = mount
    made: list[Path] = []
    try:
        for name in names:
            path /= name
            if not path.exists():
                path.mkdir()
                made.append(path)
        yield path
    finally:
        for each in reversed(made):
            each.rmdir()


def runs_in(path: Path, program: Path) -> int:
    """Run a program in a cgroup; gives its pid."""
    with subprocess.Popen(["sh", "-ec", f"echo $$ > '{path}/cgroup.procs'; exec '{program}'"]) as process:
        assert process.wait() == 0
    return process.pid


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Docker's data root, for what `container` puts there."""
    return tmp_path_factory.mktemp("docker")


def container(docker: Path, name: str) -> str:
    """The id of a container as docker writes it down."""
    number = secrets.token_hex(32)
    folder = docker / "containers" / number
    folder.mkdir(parents=True)
    config = {"ID": number, "Name": f"/{name}", "Config": {"Image": "box:1", "Labels": {}}}
    (folder / "config.v2.json").write_text(json.dumps(config))
    (folder / "config.v2.json").chmod(0o600)
    return number


@pytest.fixture(scope="module")
def storage() -> Iterator[Path]:
    """Podman's storage; what is below must have a short path."""
    with tempfile.TemporaryDirectory(prefix="hl", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "storage"


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory, docker: Path, storage: Path) -> Iterator[Collector]:
    tables = {
        "collector": {"probes": ["execve", "fork", "exit"]},
        "enrich.containers": {"docker": [str(docker)], "storage": [str(storage)]},
    }
    with Collector(tmp_path_factory.mktemp("collector"), tables) as running:
        yield running
        running.stop().check()


def execution(collector: Collector, pid: int) -> Event:
    """What the process executed last."""
    return [each for each in collector.sync() if (each["data_type"], each.get("pid")) == ("59", str(pid))][-1]


def told(event: Event) -> dict[str, str]:
    names = ("container_", "pod_")
    return {name: value for name, value in event.items() if name.startswith(names)}


@contextmanager
def podman(storage: Path) -> Iterator[list[str]]:
    """The beginning of podman's command, with an image ``box`` that holds busybox; removes all containers."""
    folder = storage.parent
    command = ["podman", "--root", str(storage), "--runroot", str(folder / "run"), "--storage-driver", "vfs"]
    command += ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--tmpdir", str(folder / "tmp")]
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    run("tar", "-C", root, "-cf", folder / "box.tar", ".")
    try:
        run(*command, "import", folder / "box.tar", "box:latest")
        yield command
    finally:
        run(*command, "rm", "--all", "--force", "--time", "0")
        for _, _, place in mounts():
            for path in sorted((*place.glob(f"{PARENT}/*/"), *place.glob(PARENT)), reverse=True):
                path.rmdir()


def test_a_real_container(watching: Collector, storage: Path) -> None:
    """What runs in a container of podman and runc is told with id, name, image and node name, verified."""
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
    with podman(storage) as command:
        script = "echo ready; read line; exec /bin/busybox true inside"
        options = ["--runtime", "runc", "--network", "none", "--name", "box1", "--interactive", *limits]
        options += ["--cgroup-parent", f"/{PARENT}"]
        with subprocess.Popen(
            [*command, "run", *options, "box:latest", "/bin/sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == b"ready"
            number = run(*command, "ps", "--quiet", "--no-trunc").stdout.decode().strip()
            process.communicate(b"\n")
        assert process.returncode == 0
        events = watching.sync()
        [event] = [each for each in events if each.get("argv") == "/bin/busybox true inside "]
    assert told(event) == {
        "container_id": number,
        "container_name": "box1",
        "container_image": "localhost/box:latest",
        "container_runtime": "podman",
        "container_status": "verified",
    }
    assert event["nodename"] == number[:12]
    # The monitor outside of it is in none.
    assert [told(each) for each in events if each.get("comm") == "conmon" and each["data_type"] == "59"][-1:] == [{}]


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_the_cgroup_of_a_container(version: str, watching: Collector, docker: Path, programs: Programs) -> None:
    """In either version of cgroups, a process is told in the container whose cgroup it is in, or below it."""
    if version not in hierarchies():
        version = "v2"
    number = container(docker, "web")
    for names in (("docker", number), ("docker", number, "inner")):
        with cgroup(hierarchies()[version], *names) as path:
            event = execution(watching, runs_in(path, programs("nop")))
        assert told(event) == {
            "container_id": number,
            "container_name": "web",
            "container_image": "box:1",
            "container_runtime": "docker",
            "container_status": "verified",
        }


def test_the_id_of_a_cgroup(programs: Programs, tmp_path: Path) -> None:
    """The id of the cgroup is its inode number; one of version 1 has 2^62 beside."""
    with Collector(tmp_path, {"collector": {"probes": ["execve"]}}, schema="ecs") as running:
        wanted = {}
        for version, mount in hierarchies().items():
            with cgroup(mount, f"hookline-{os.getpid()}") as path:
                number = path.stat().st_ino
                wanted[runs_in(path, programs("nop"))] = number | (CGROUP_V1 if version == "v1" else 0)
        running.sync()
        ended = running.stop()
        ended.check()
        events = [each for each in ended.events if each["process"].get("executable") == str(programs("nop"))]
    assert {each["process"]["pid"]: each["hookline"]["cgroup"]["id"] for each in events} == wanted


def test_a_name_that_anybody_could_give(watching: Collector, docker: Path, programs: Programs) -> None:
    """A cgroup with a container's name is no container where a user could make it, and unverified without a file."""
    number, unknown = container(docker, "victim"), secrets.token_hex(32)
    [mount] = list(hierarchies().values())[:1]
    with cgroup(mount, f"user-{os.getpid()}") as users:
        os.chown(users, NOBODY, NOBODY)
        with cgroup(users, f"docker-{number}.scope") as path:
            assert told(execution(watching, runs_in(path, programs("nop")))) == {}
    with cgroup(mount, f"docker-{unknown}.scope") as path:
        event = execution(watching, runs_in(path, programs("nop")))
    assert told(event) == {"container_id": unknown, "container_status": "unverified"}
    # Root of a container may make what it likes below.
    with cgroup(mount, f"docker-{container(docker, 'outer')}.scope", f"docker-{number}.scope") as path:
        assert execution(watching, runs_in(path, programs("nop")))["container_name"] == "outer"
