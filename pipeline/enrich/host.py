# SPDX-License-Identifier: GPL-2.0-or-later
"""What is the same for every event of this host."""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from probes.event import UNKNOWN

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")

_ELSEWHERE = (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Addresses for documentation (RFC 5737, RFC 3849): what would be sent there leaves by the default route."""


class Host(msgspec.Struct, frozen=True):
    """One host at one time."""

    hostname: str
    local_ip: str
    """The address that traffic to other networks leaves from."""

    boot_id: str
    machine_id: str
    version: str = ""
    """Release of the running kernel."""

    @classmethod
    def current(cls) -> Host:
        """This host now."""
        return cls(
            hostname=socket.gethostname(),
            local_ip=_local_ip(),
            boot_id=_first_line(_BOOT_ID),
            machine_id=_first_line(_MACHINE_ID),
            version=os.uname().release,
        )


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return UNKNOWN


def _local_ip() -> str:
    for address, family in _ELSEWHERE:
        # Connecting a datagram socket asks the routing table and sends nothing; a family may be switched off.
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as asker:
            asker.connect((address, 9))
            return str(asker.getsockname()[0])
    return UNKNOWN


def run_id(boot_id: str, started_ns: int) -> str:
    """16 hex digits that name one collector's run; events of another run never share an id."""
    return hashlib.blake2b(f"{boot_id} {started_ns}".encode(), digest_size=8).hexdigest()
