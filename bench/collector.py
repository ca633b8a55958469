# SPDX-License-Identifier: GPL-2.0-or-later
"""`hookline run` as users run it, beside a benchmark."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError

_PATIENCE_S = 120.0
_LOOK_S = 0.05
_BUCKET = re.compile(r'^hookline_ack_latency_seconds_bucket\{le="([^"]+)",sink="([^"]+)"\} (\S+)$', re.MULTILINE)

Buckets = Mapping[float, int]
"""Events acknowledged within so many seconds after the kernel saw them."""


def await_(look: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S) -> None:
    """Look until it is so. Raises ConfigError after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while not look():
        if time.monotonic() > deadline:
            raise ConfigError(f"{what} did not come within {patience_s:.0f} s")
        time.sleep(_LOOK_S)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Collector:
    """A running collector. `ledger` is there after the end."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, listen: str) -> None:
        self.process = process
        self.ledger: dict[str, Any] = {}
        self._log = log
        self._listen = listen

    def await_collecting(self) -> None:
        """All probes are attached. Raises ConfigError: it ended, with its own words."""

        def look() -> bool:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            if self.process.poll() is not None:
                raise ConfigError(f"hookline run ended at once: {text.strip()[-500:]}")
            return '"collecting"' in text or " collecting" in text

        await_(look, "the collector's start")

    def latencies(self) -> Mapping[str, Buckets]:
        """Cumulative, by sink."""
        host, _colon, port = self._listen.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        found: dict[str, dict[float, int]] = {}
        for bound, sink, count in _BUCKET.findall(text):
            found.setdefault(sink, {})[float(bound)] = int(float(count))
        return found

    def usage(self) -> tuple[float, int]:
        """CPU seconds so far, and resident KiB."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        resident = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
        return (int(stat[11]) + int(stat[12])) / 100, int(resident[1]) if resident else 0


@contextmanager
def collecting(config: Path, listen: str, *options: str) -> Iterator[Collector]:
    """`hookline run` with that configuration, whose metrics are at `listen`, from when all probes are attached.

    Raises:
        ConfigError: it does not start.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, ledger = Path(folder) / "log", Path(folder) / "ledger.json"
        command = [sys.executable, "-P", "-m", "pipeline.cli", "run", "--config", str(config), "--ledger", str(ledger)]
        with log.open("wb") as file:
            process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=file)
        collector = Collector(process, log, listen)
        try:
            collector.await_collecting()
            yield collector
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE_S)
            if ledger.exists():
                collector.ledger = json.loads(ledger.read_bytes())
