# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's address, as it changes."""

from __future__ import annotations

import subprocess
import sys

_FOLLOW = r"""
import subprocess
import trio
from pipeline.enrich.addresses import keep_host
from pipeline.enrich.host import Host

def ip(*command):
    subprocess.run(["ip", *command], check=True)

async def main():
    send, receive = trio.open_memory_channel(10)
    ip("link", "set", "lo", "up")
    ip("address", "add", "198.51.100.7/24", "dev", "lo")
    ip("route", "add", "default", "dev", "lo", "src", "198.51.100.7")
    first = Host.current()
    print(first.local_ip)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_host, lambda host: send.send_nowait(host.local_ip), first, 3600)
        await trio.testing.wait_all_tasks_blocked()
        ip("route", "del", "default")
        print(await receive.receive())
        ip("address", "add", "203.0.113.9/24", "dev", "lo")
        ip("route", "add", "default", "dev", "lo", "src", "203.0.113.9")
        print(await receive.receive())
        nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
"""


def test_an_address_that_changes() -> None:
    """Another address of the default route is known at once, and one that is gone is not told any more."""
    command = ["unshare", "--net", sys.executable, "-c", _FOLLOW]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr, done.returncode) == (["198.51.100.7", "-1", "203.0.113.9"], "", 0)
