# SPDX-License-Identifier: GPL-2.0-or-later
"""What is the same for every event of this host."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from pathlib import Path

import pytest
import trio

from pipeline.enrich.addresses import keep_host
from pipeline.enrich.host import Host, run_id
from probes.event import UNKNOWN


def test_this_host() -> None:
    """Name, kernel and boot are this machine's; the address is one, or told as unknown."""
    host = Host.current()
    assert host.hostname == socket.gethostname()
    assert host.version == os.uname().release
    assert host.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert host.local_ip == UNKNOWN or not ipaddress.ip_address(host.local_ip).is_unspecified


def test_a_host_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a family of addresses is switched off, and the other has no route, the address is unknown."""

    def without(_family: int, _kind: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "no such family")

    monkeypatch.setattr(socket, "socket", without)
    assert Host.current().local_ip == UNKNOWN


def test_looking_again_finds_the_same() -> None:
    """A host that did not change compares equal, so that nothing is made anew for it."""
    assert Host.current() == Host.current()


def test_runs_have_ids_of_their_own() -> None:
    """A run's id is 16 hex digits; another boot or another start has another."""
    ids = {run_id("boot", 1), run_id("boot", 2), run_id("other", 1)}
    assert len(ids) == 3
    assert all(len(bytes.fromhex(each)) == 8 for each in ids)
    assert run_id("boot", 1) in ids


@pytest.mark.usefixtures("autojump_clock")
async def test_a_host_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor or a thread for a moment, the host is looked at again later."""
    errors: list[Exception] = [OSError(24, "Too many open files"), RuntimeError("can't start new thread")]
    known, told = Host("a", "192.0.2.1", "", ""), list[Host]()
    other = Host("b", "192.0.2.1", "", "")

    def current() -> Host:
        if errors:
            raise errors.pop()
        return other

    monkeypatch.setattr(Host, "current", current)
    monkeypatch.setattr("pipeline.enrich.addresses._subscribed", nothing)
    with trio.CancelScope() as until_told:

        def tell(host: Host) -> None:
            told.append(host)
            until_told.cancel()

        await keep_host(tell, known, 1.0)
    assert told == [other]


async def nothing() -> None:
    """No netlink socket."""
