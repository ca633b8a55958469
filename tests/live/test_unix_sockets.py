# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to AF_UNIX sockets, which are told on request."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from probes.text import to_bytes
from tests.live.collector import Collector
from tests.live.needs import by_function
from tests.live.test_connections import NOWHERE, connections

UNIX_NAMES = {
    "path": b"plain",
    "hostile": b'a"b\\\n\x17\x1e\x7f\xff\xe2\x80\xa8\xee\xbe\x80',
}


@pytest.mark.parametrize("name", UNIX_NAMES)
def test_a_unix_socket(name: str, collector: Collector, tmp_path: Path) -> None:
    """With unix_sockets a connection to a path is told; the peer's name comes back byte for byte."""
    path = UNIX_NAMES[name]
    here = os.open(tmp_path, os.O_RDONLY)
    relative = b"/proc/self/fd/%d/%s" % (here, path)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(relative)
        server.listen()
        client.connect(relative)
        fd = client.fileno()
    os.close(here)
    event = connections(collector)[-1]
    assert (to_bytes(event["path"]), event["sa_family"], event["fd"]) == (relative, "1", str(fd))
    assert (event["res"], event["dip"], event["dport"]) == ("0", "-1", "0")


def test_an_abstract_unix_socket(collector: Collector) -> None:
    """An abstract name begins with @ and is whole, whatever bytes it has."""
    name = b"hookline-%d \n\xff" % os.getpid()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(b"\0" + name)
        server.listen()
        client.connect(b"\0" + name)
    assert to_bytes(connections(collector)[-1]["path"]) == b"@" + name


def test_an_abstract_name_with_nul_bytes(collector: Collector) -> None:
    """NUL bytes within an abstract name do not end it: what stands behind them is told."""
    name = b"hookline\0%d\0end" % os.getpid()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(b"\0" + name)
        server.listen()
        client.connect(b"\0" + name)
    assert connections(collector)[-1]["path"].endswith("end")


def test_a_unix_socket_that_is_not_there(attach: str | None, collector: Collector, tmp_path: Path) -> None:
    """A failed AF_UNIX connection tells the name that was asked for, and whether that is the caller's own word."""
    path = str(tmp_path / "absent")[-100:]
    with socket.socket(socket.AF_UNIX) as client:
        assert client.connect_ex(path) == errno.ENOENT
    event = connections(collector)[-1]
    assert (event["res"], event["path"]) == (str(-errno.ENOENT), path)
    assert event["from_caller"] == ("0" if by_function(attach) else "1")


def test_unix_sockets_are_left_out_by_default(tmp_path: Path) -> None:
    """Without unix_sockets an AF_UNIX connection is no event, and not filtered either; a v4 one is told."""
    with Collector(tmp_path) as collector:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect_ex("/absent")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect_ex((NOWHERE, 9))
        told = connections(collector)
        assert [(event["sa_family"], event["dip"]) for event in told] == [("2", NOWHERE)]
        collector.stop().check()
