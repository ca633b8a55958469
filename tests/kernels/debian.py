# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's kernel packages, resolved from the metapackages, downloaded and unpacked; this host's apt stays as it is."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernels.releases import Release, cache

_METAPACKAGES = ("linux-image-amd64", "linux-headers-amd64")
_DEPENDS_ONLY = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel."""

    release: Release
    folder: Path
    """Its place in the cache."""

    @property
    def root(self) -> Path:
        """Where the packages are unpacked: boot, lib/modules, usr/src."""
        return self.folder / "root"

    @property
    def compiled(self) -> Path:
        """Probes that were compiled for it, in the collector's own cache."""
        return self.folder / "compiled"

    @property
    def offered(self) -> Path:
        """What of the probes it can take; see offered.py."""
        return self.folder / "offered.json"

    @property
    def modules(self) -> Path:
        """The folder of its modules; since 7.x Debian has it below usr/."""
        [found] = [*self.root.glob("lib/modules/*"), *self.root.glob("usr/lib/modules/*")]
        return found

    @property
    def version(self) -> str:
        """As ``uname -r`` has it."""
        return self.modules.name

    @property
    def image(self) -> Path:
        """The bzImage; since 7.x it lies with the modules."""
        beside = self.modules / "vmlinuz"
        return beside if beside.exists() else self.root / "boot" / f"vmlinuz-{self.version}"


def fetch(release: Release) -> Kernel:
    """The kernel from the cache, or downloaded into it.

    Raises:
        subprocess.CalledProcessError: apt or dpkg failed; its output is in the exception.
    """
    kernel = Kernel(release, cache() / release.name)
    kernel.folder.mkdir(parents=True, exist_ok=True)
    with locked(kernel.folder / "lock"):
        if not kernel.root.exists():
            _unpack(_download(release, kernel.folder), kernel.root)
    return kernel


def fetch_library(kernel: Kernel) -> Path | None:
    """The C library that the kernel's build tools were linked with, unpacked, where this host's is too old for them."""
    if not kernel.release.library:
        return None
    folder = kernel.folder / "library"
    if not folder.exists():
        fresh = kernel.folder / "debs"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        apt = _Apt(Release(kernel.release.name, "debian", kernel.release.library), kernel.folder / "apt-library")
        apt("apt-get", "update")
        apt("apt-get", "download", "libc6", cwd=fresh)
        _unpack([*fresh.glob("*.deb")], folder)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two runs at the same time make one cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(release: Release, folder: Path) -> list[Path]:
    apt = _Apt(release, folder / "apt")
    apt("apt-get", "update")
    depends = apt("apt-cache", "depends", "--recurse", *_DEPENDS_ONLY, *_METAPACKAGES).split()
    packages = sorted({name for name in depends if _is_wanted(name)})
    # A folder that is new: what an older kernel left there would be unpacked too.
    debs = folder / "debs"
    shutil.rmtree(debs, ignore_errors=True)
    debs.mkdir()
    apt("apt-get", "download", *packages, cwd=debs)
    return sorted(debs.glob("*.deb"))


def _is_wanted(name: str) -> bool:
    """Packages of the kernel proper: a version in the name, or the scripts that build modules."""
    parts = name.split("-")
    if parts[0] != "linux" or len(parts) < 3 or name.endswith("-unsigned"):
        return False
    return parts[1] in {"image", "binary", "modules", "headers", "kbuild"} and parts[2][0].isdigit()


def _unpack(debs: list[Path], root: Path) -> None:
    fresh = root.with_name("unpacking")
    shutil.rmtree(fresh, ignore_errors=True)
    for deb in debs:
        _run("dpkg-deb", "--extract", str(deb), str(fresh))
    fresh.rename(root)
    shutil.rmtree(debs[0].parent)


def _mirror() -> str:
    """The place that this host's own packages come from."""
    sites = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)"], check=True, capture_output=True, text=True
    ).stdout.split()
    return sites[0].rpartition("/")[0]


class _Apt:
    """apt with one suite, and lists and state of its own."""

    def __init__(self, release: Release, folder: Path) -> None:
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        line = f"deb [signed-by={_KEYRING}] {_mirror()}/{release.archive} {release.suite} main\n"
        (folder / "sources.list").write_text(line)
        (folder / "status").touch()
        options = {
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "APT::Sandbox::User": "root",  # its own user could not write here
        }
        self._options = [f"-o{name}={value}" for name, value in options.items()]

    def __call__(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        return _run(tool, "-q", *self._options, *arguments, cwd=cwd)


def _run(*command: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout
