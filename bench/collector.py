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


def to_a_file(folder: Path) -> tuple[Path, str]:
    """A configuration with one sink, `folder`/events.ndjson, and where its metrics will be."""
    config, listen = folder / "config.toml", f"127.0.0.1:{free_port()}"
    config.write_text(
        f'[metrics]\nlisten = "{listen}"\n'
        f'[sinks.file]\ntype = "file"\npath = "{folder}/events.ndjson"\nrotate_bytes = 0\n',
        encoding="utf-8",
    )
    return config, listen


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

    def troubles(self) -> dict[str, str]:
        """Why sinks take nothing at present, by name, in the collector's own words."""
        found: dict[str, str] = {}
        for line in self._log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue  # log.format = "console", or what another library prints
            if not isinstance(said, dict) or "sink" not in said:
                continue
            if "reason" in said:
                found[said["sink"]] = said["reason"]
            else:
                found.pop(said["sink"], None)
        return found

    def undelivered(self, sink: str) -> int:
        """Events that the kernel numbered and this sink did not get."""
        kinds = self.ledger["kinds"].values()
        return sum(int(kind["emitted"]) - int(kind["sinks"].get(sink, {}).get("delivered", 0)) for kind in kinds)


@contextmanager
def collecting(config: Path, listen: str, *options: str) -> Iterator[Collector]:
    """`hookline run` with that configuration, whose metrics are at `listen`, from when all probes are attached.

    Raises:
        ConfigError: it does not start, fails, or its ledger does not close.
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
            try:
                process.wait(_PATIENCE_S)
            finally:
                process.kill()  # which does nothing where it has ended
                process.wait()
        if process.returncode:
            said = log.read_text(errors="replace").strip()
            raise ConfigError(f"hookline run ended with {process.returncode}: {said[-500:]}")
        collector.ledger = json.loads(ledger.read_bytes())
        if not collector.ledger["closed"]:
            raise ConfigError("the collector's ledger did not close")
