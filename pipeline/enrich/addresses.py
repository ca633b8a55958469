# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeping up with this host's name and address: rtnetlink(7) tells when addresses or routes change."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from pipeline.enrich.host import Host

_GROUPS = 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR and IPV6_ROUTE of linux/rtnetlink.h."""

_SETTLE_S = 0.1
"""Changes come in bursts: an address, then its routes."""


async def keep_host(tell: Callable[[Host], None], known: Host, every_s: float) -> None:
    """Call `tell` when the host is another than `known` or than it last was.

    It is looked at when an address or a route changes; and every `every_s` seconds, for its name, and for all of it
    where a sandbox forbids netlink sockets.
    """
    changes = await _subscribed()
    try:
        while True:
            with trio.move_on_after(every_s):
                await _changed(changes)
            try:
                host = await trio.to_thread.run_sync(Host.current)
            except (OSError, RuntimeError):  # no descriptor or no thread is to be had just now
                continue
            if host != known:
                tell(host)
                known = host
    finally:
        if changes is not None:
            changes.close()


async def _subscribed() -> trio.socket.SocketType | None:
    try:
        changes = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:
        return None
    try:
        await changes.bind((0, _GROUPS))
    except OSError:
        changes.close()
        return None
    return changes


async def _changed(changes: trio.socket.SocketType | None) -> None:
    if changes is None:
        await trio.sleep_forever()
    with suppress(OSError):  # ENOBUFS: more changes than the socket holds, which is a change as well
        await changes.recv(1)
        with trio.move_on_after(_SETTLE_S):
            while True:
                await changes.recv(1)
