# SPDX-License-Identifier: GPL-2.0-or-later
"""From cgroups to containers: which names count, what is remembered, what is waited for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from pipeline.enrich import containers
from pipeline.enrich.cgroups import Candidate, Hierarchies, candidates
from pipeline.enrich.containers import Containers
from pipeline.enrich.runtimes import Description, Roots
from probes.process.exit import Exit
from tests.unit.pipeline.samples import made

A, B = "a" * 64, "b" * 64
MOUNT = Path("/sys/fs/cgroup")


def of_paths(path: str, owners: dict[str, int] | None = None, mode: int = 0o755) -> list[Candidate]:
    """What counts in `path`, where the named directories belong to others than root."""

    def stat_of(parent: Path) -> os.stat_result:
        uid = (owners or {}).get(parent.name, 0)
        return os.stat_result((0o040000 | mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))

    return candidates(MOUNT, MOUNT / path, stat_of)


@pytest.mark.parametrize(
    "path",
    [
        f"system.slice/docker-{A}.scope",
        f"docker/{A}",
        f"machine.slice/libpod-{A}.scope/container",
        f"libpod_parent/libpod-{A}",
        f"kubepods.slice/kubepods-pod1.slice/cri-containerd-{A}.scope",
        f"kubepods/burstable/pod0aa1/{A}",
        f"kubepods-pod1.slice:cri-containerd:{A}",
        f"kubepods.slice/crio-{A}.scope/init.scope",
    ],
)
def test_names_of_cgroups(path: str) -> None:
    """Of every runtime, with systemd's driver and without, the id is found, also from a cgroup further down."""
    assert of_paths(path) == [Candidate(A, 0)]


@pytest.mark.parametrize(
    "path",
    ["", "system.slice/ssh.service", f"libpod-conmon-{A}.scope", f"crio-conmon-{A}.scope", f"docker-{A[1:]}.scope"],
)
def test_other_cgroups(path: str) -> None:
    """A service, a container's monitor and a shorter number are no container."""
    assert of_paths(path) == []


def test_who_could_make_it() -> None:
    """A name below a user's directory is that user's; below a second user's, or a writable one, it is nothing."""
    path = f"user.slice/user@1000.service/libpod-{A}.scope/x/docker-{B}.scope"
    assert of_paths(path, {"user@1000.service": 1000, f"libpod-{A}.scope": 1000, "x": 1000}) == [
        Candidate(A, 1000),
        Candidate(B, 1000),
    ]
    assert of_paths(path, {"user@1000.service": 1000, f"libpod-{A}.scope": 1001, "x": 1001}) == [Candidate(A, 1000)]
    assert of_paths(path, {"user@1000.service": 1000}) == [Candidate(A, 1000)]
    assert of_paths(f"docker/{A}", mode=0o777) == []


class Known(Hierarchies):
    """Cgroups by number, each with its containers; 404 is gone."""

    def __init__(self, known: dict[int, list[Candidate]]) -> None:
        self.known = known
        self.asked: list[int] = []

    def candidates(self, cgroup: int, tgid: int) -> list[Candidate] | None:
        self.asked.append(cgroup)
        return self.known.get(cgroup)


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> dict[str, Description]:
    """What runtimes know, by id."""
    known: dict[str, Description] = {}
    monkeypatch.setattr(containers, "describe", lambda found, _owner, _home, _roots: known.get(found))
    return known


def enrichment(known: Known, **options: float) -> Containers:
    settings = {"entries": 16, "wait_s": 0.5, **options}
    return Containers(Roots((), (), ()), lambda _uid: "/", hierarchies=known, **settings)  # type: ignore[arg-type]


async def told(enrichment: Containers, *cgroups: int) -> list[tuple[str, str, str]]:
    events = [made(Exit, cgroup=cgroup) for cgroup in cgroups]
    await enrichment.enrich(list(events))
    return [(event.container_id, event.container_name, event.container_status) for event in events]


async def test_what_is_told(described: dict[str, Description]) -> None:
    """Root's container is verified, a user's is the user's, one without a file has its id alone, others nothing."""
    described |= {A: Description("docker", "web"), B: Description("podman", "box")}
    known = Known(
        {2: [Candidate(A, 0)], 3: [Candidate(B, 1000)], 4: [Candidate("c" * 64, 0)], 5: [Candidate("d" * 64, 9)], 6: []}
    )
    answers = await told(enrichment(known), 1, 2, 3, 4, 5, 6)
    nothing = ("", "", "")
    assert answers == [
        nothing,
        (A, "web", "verified"),
        (B, "box", "user"),
        ("c" * 64, "", "unverified"),
        nothing,
        nothing,
    ]


async def test_the_outermost_known_one(described: dict[str, Description]) -> None:
    """Of nested names the outermost that a runtime knows counts, whatever is claimed below it."""
    described |= {A: Description("docker", "outer"), B: Description("docker", "inner")}
    assert await told(enrichment(Known({2: [Candidate(A, 0), Candidate(B, 0)]})), 2) == [(A, "outer", "verified")]
    unknown = Candidate("c" * 64, 0)
    assert await told(enrichment(Known({2: [unknown, Candidate(B, 0)]})), 2) == [(B, "inner", "verified")]


async def test_what_is_remembered(described: dict[str, Description], mock_clock: trio.testing.MockClock) -> None:
    """A cgroup is looked up once, but one that is gone or unverified again a second later; counted, and bounded."""
    described[A] = Description("docker", "web")
    known = Known({2: [Candidate(A, 0)], 3: [Candidate(B, 0)]})
    cache = enrichment(known)
    for _ in range(3):
        await told(cache, 2, 3, 404)
    assert sorted(known.asked) == [2, 3, 404]
    described[B] = Description("docker", "late")
    mock_clock.jump(1.1)
    assert (await told(cache, 3))[0][1] == "late"
    assert cache.statistics() == {
        "size": 3,
        "hits": 6,
        "misses": 4,
        "evictions": 0,
        "timeouts": 0,
        "without_thread": 0,
        "workers_busy": 0,
    }
    known.known |= {number: [] for number in range(1000, 1100)}
    await told(cache, *range(1000, 1100))
    assert (cache.statistics()["size"], cache.statistics()["evictions"]) == (16, 87)


async def test_a_file_system_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a user's files do not answer, events wait once; then other users go without, and root's are told."""
    release = threading.Event()

    def describe(found: str, owner: int, _home: str, _roots: Roots) -> Description | None:
        if owner == 1000:
            release.wait(30)
        return Description("docker", found[:1])

    monkeypatch.setattr(containers, "describe", describe)
    cache = enrichment(Known({2: [Candidate(A, 1000)], 3: [Candidate(B, 1001)], 4: [Candidate(A, 0)]}), wait_s=1.0)
    try:
        assert await told(cache, 2, 2) == [("", "", "")] * 2
        assert await told(cache, 3, 4) == [("", "", ""), (A, "a", "verified")]
        assert cache.statistics()["timeouts"] == 1
    finally:
        release.set()


async def test_more_new_cgroups_than_are_remembered(described: dict[str, Description]) -> None:
    """Events of many cgroups at once are told what was found, however few of them are remembered."""
    known = Known({number: [Candidate(A, 0)] for number in range(2, 42)} | {number: [] for number in range(42, 82)})
    cache = enrichment(known)
    assert await told(cache, *range(2, 42)) == [(A, "", "unverified")] * 40
    await told(cache, *range(42, 82))
    assert cache.statistics()["timeouts"] == 0
