# SPDX-License-Identifier: GPL-2.0-or-later
"""What runtimes' files say of containers, in the layouts that these runtimes have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.enrich.runtimes import Description, Roots, describe

ID = "99c34db0ea8838e9d9d9bddb9855356bd1cb98cc37b3d00a2300e13db8447200"
OTHER = "5c9d40c4faf4446923c613e7a6b3d25b494f73c734ad80060a95c93343f2bc85"

DOCKER = {
    "StreamConfig": {},
    "State": {"Running": True, "Pid": 4711, "StartedAt": "2026-11-20T08:00:00.5Z"},
    "ID": ID,
    "Managed": False,
    "Path": "/docker-entrypoint.sh",
    "Config": {
        "Hostname": "99c34db0ea88",
        "Image": "nginx:1.27",
        "Labels": {"maintainer": "NGINX Docker Maintainers"},
    },
    "Image": "sha256:5acb34765f4be13b495627a592289ed931d320c3dae33b51b195ec39a7eda0ed",
    "Name": "/web",
    "Driver": "overlay2",
}
KUBELETS_DOCKER = {
    **DOCKER,
    "Name": "/k8s_shop_cart-0_store_0aa1_0",
    "Config": {
        "Image": "sha256:5acb",
        "Labels": {
            "io.kubernetes.container.name": "shop",
            "io.kubernetes.pod.name": "cart-0",
            "io.kubernetes.pod.namespace": "store",
        },
    },
}
CRI = {
    "ociVersion": "1.1.0",
    "hostname": "cart-0",
    "annotations": {
        "io.kubernetes.cri.container-name": "shop",
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.image-name": "registry.example/shop:3",
        "io.kubernetes.cri.sandbox-id": OTHER,
        "io.kubernetes.cri.sandbox-name": "cart-0",
        "io.kubernetes.cri.sandbox-namespace": "store",
    },
    "linux": {"cgroupsPath": f"/kubepods/burstable/pod0aa1/{ID}"},
}
SANDBOX = {
    "annotations": {
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.sandbox-id": ID,
        "io.kubernetes.cri.sandbox-name": "cart-0",
        "io.kubernetes.cri.sandbox-namespace": "store",
    }
}
PODMAN = {"annotations": {"io.container.manager": "libpod", "io.kubernetes.cri-o.TTY": "false"}}
STORED = [
    {"id": OTHER, "names": ["other"], "image": "aa", "metadata": "{}"},
    {
        "id": ID,
        "names": ["web"],
        "image": "5acb34765f4be13b495627a592289ed931d320c3dae33b51b195ec39a7eda0ed",
        "metadata": '{"image-name":"localhost/box:latest","name":"web","created-at":1795655361}',
    },
]
CRI_O = {
    "annotations": {
        "io.kubernetes.container.name": "shop",
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.ImageName": "registry.example/shop:3",
        "io.kubernetes.cri-o.Name": "k8s_shop_cart-0_store_0aa1_0",
        "io.kubernetes.pod.name": "cart-0",
        "io.kubernetes.pod.namespace": "store",
    }
}

CONTAINERD = "io.containerd.runtime.v2.task/k8s.io"
STORAGE = "overlay-containers"
KNOWN: dict[str, tuple[dict[str, object], Description]] = {
    "docker": ({f"containers/{ID}/config.v2.json": DOCKER}, Description("docker", "web", "nginx:1.27")),
    "docker of a kubelet": (
        {f"containers/{ID}/config.v2.json": KUBELETS_DOCKER},
        Description("docker", "shop", "sha256:5acb", "cart-0", "store"),
    ),
    "containerd": (
        {f"{CONTAINERD}/{ID}/config.json": CRI},
        Description("containerd", "shop", "registry.example/shop:3", "cart-0", "store"),
    ),
    "sandbox": (
        {f"{CONTAINERD}/{ID}/config.json": SANDBOX},
        Description("containerd", "POD", "", "cart-0", "store"),
    ),
    "podman": (
        {f"{STORAGE}/{ID}/userdata/config.json": PODMAN, f"{STORAGE}/containers.json": STORED},
        Description("podman", "web", "localhost/box:latest"),
    ),
    "podman's --rootfs": ({f"{STORAGE}/{ID}/userdata/config.json": PODMAN}, Description("podman")),
    "cri-o": (
        {f"{STORAGE}/{ID}/userdata/config.json": CRI_O, f"{STORAGE}/containers.json": STORED},
        Description("cri-o", "shop", "registry.example/shop:3", "cart-0", "store"),
    ),
}


def written(root: Path, files: dict[str, object]) -> Roots:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        path.chmod(0o600)
    return Roots((str(root),), (str(root),), (str(root),))


@pytest.fixture
def owner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Whose every file seems to be: root, or the parameter."""
    uid: int = getattr(request, "param", 0)
    whole = os.fstat
    seems = "pipeline.enrich.runtimes.os.fstat"
    monkeypatch.setattr(seems, lambda fd: os.stat_result((*whole(fd)[:4], uid, *whole(fd)[5:])))
    return uid


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("which", KNOWN)
def test_what_runtimes_write(which: str, tmp_path: Path) -> None:
    """Name, image, pod and namespace are those of the runtime's own files; of another id nothing is known."""
    files, expected = KNOWN[which]
    roots = written(tmp_path, files)
    assert describe(ID, 0, "", roots) == expected
    assert describe(OTHER, 0, "", roots) is None


@pytest.mark.usefixtures("owner")
def test_what_does_not_count(tmp_path: Path) -> None:
    """A file of another user, one that others can write, a link and a FIFO in its place are no runtime's file."""
    roots = written(tmp_path, KNOWN["docker"][0])
    path = tmp_path / f"containers/{ID}/config.v2.json"
    assert describe(ID, 12_345, "", roots) is None
    path.chmod(0o622)
    assert describe(ID, 0, "", roots) is None
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert describe(ID, 0, "", roots) is None
    path.unlink()
    os.mkfifo(path)
    assert describe(ID, 0, "", roots) is None


@pytest.mark.parametrize("owner", [1000], indirect=True)
def test_a_user_without_rights(owner: int, tmp_path: Path) -> None:
    """A user's own containers are looked for in that user's home alone, and must be that user's."""
    roots = written(tmp_path / ".local/share/containers/storage", KNOWN["podman"][0])
    assert describe(ID, owner, str(tmp_path), Roots((), (), ())) == KNOWN["podman"][1]
    assert describe(ID, owner, str(tmp_path / "other"), roots) is None
    assert describe(ID, 1001, str(tmp_path), roots) is None
    assert describe(ID, 0, str(tmp_path), roots) is None


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["Config", "Name", "Labels", "annotations", "names", "metadata", "id"]), inner, max_size=4
        ),
    ),
    max_leaves=8,
)


@pytest.mark.usefixtures("owner")
@given(first=JSON, second=JSON)
def test_any_json(tmp_path_factory: pytest.TempPathFactory, first: object, second: object) -> None:
    """Whatever the files hold, what comes out is texts without a NUL, or nothing."""
    root = tmp_path_factory.getbasetemp() / "any-runtime"
    names = (
        f"containers/{ID}/config.v2.json",
        f"{CONTAINERD}/{ID}/config.json",
        f"{STORAGE}/{ID}/userdata/config.json",
    )
    for name in names:
        roots = written(root, {f"{STORAGE}/containers.json": [second, {"id": ID, "metadata": second}], name: first})
        found = describe(ID, 0, "", roots)
        assert found is None or "\0" not in "".join(found)
        (root / name).unlink()


@pytest.mark.parametrize(("owner", "is_read"), [(0, True), (1000, False)], indirect=["owner"])
def test_large_files(owner: int, is_read: bool, tmp_path: Path) -> None:
    """A user without rights is believed no large files; root's are read."""
    root = tmp_path / ".local/share/containers/storage"
    roots = written(root, {f"{STORAGE}/{ID}/userdata/config.json": {**PODMAN, "process": "x" * (64 << 10)}})
    assert describe(ID, owner, str(tmp_path), roots) == (Description("podman") if is_read else None)


@pytest.mark.parametrize("owner", [1000], indirect=True)
def test_many_folders(owner: int, tmp_path: Path) -> None:
    """Of a user's folders only some are looked at."""
    for number in range(20):
        (tmp_path / f".local/share/containers/storage/{number:02}-containers").mkdir(parents=True)
    written(tmp_path / ".local/share/containers/storage", {f"x-containers/{ID}/userdata/config.json": PODMAN})
    assert describe(ID, owner, str(tmp_path), Roots((), (), ())) is None
