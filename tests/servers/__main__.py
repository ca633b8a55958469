# SPDX-License-Identifier: GPL-2.0-or-later
"""``make services`` and ``make services-stop``: the servers of servers.toml, until they are stopped."""

from __future__ import annotations

import sys

from tests.servers import artifacts
from tests.servers.kafka import Kafka
from tests.servers.process import NotStarted
from tests.servers.running import is_lasting, lasting, names

_USAGE = "usage: python -m tests.servers start|stop [NAME...], or pin"


def start(wanted: list[str]) -> None:
    """Start those that do not run, and say where they are."""
    for name in wanted:
        made = lasting(name)
        if not is_lasting(name):
            made.server.start()
        where = made.address if isinstance(made, Kafka) else made.url
        print(f"{name}: {where}; its files and its log: {made.server.folder}", flush=True)


def stop(wanted: list[str]) -> None:
    """Stop those that run, and delete what they wrote."""
    for name in wanted:
        if is_lasting(name):
            server = lasting(name).server
            server.stop()
            server.remove()
            print(f"{name}: stopped", flush=True)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["pin"]:
            artifacts.pin()
        case ["start" | "stop" as verb, *wanted] if set(wanted) <= set(names()):
            try:
                (start if verb == "start" else stop)(wanted or list(names()))
            except (artifacts.ServersUnavailable, NotStarted) as error:
                print(f"Servers cannot be had: {error}", file=sys.stderr)
                return 2
        case _:
            print(f"{_USAGE}; names are {', '.join(names())}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
