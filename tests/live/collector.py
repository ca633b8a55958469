# SPDX-License-Identifier: GPL-2.0-or-later
"""`hookline run` in a process of its own, as a user runs it: started, watched, told things, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.live.accounts import Outcome
from tests.live.tools import LIMIT_S, Lines, Tables, merged, toml, until

ROOT = Path(__file__).parents[2]
HOOKLINE = (sys.executable, "-m", "pipeline.cli")

Event = dict[str, Any]


class Collector:
    """A context manager; inside, the collector runs and collects, unless `stop` was called."""

    def __init__(
        self,
        folder: Path,
        tables: Tables | None = None,
        *options: str,
        schema: str = "smith",
        ready: str = "collecting",
        sources: Path = ROOT,
    ) -> None:
        """`ready`: what its log says when the context is entered; `sources`: where its packages are."""
        self.folder = folder
        self.output = folder / "events.ndjson"
        self.config = folder / "config.toml"
        self.events: list[Event] = []
        """What was delivered so far, as of the last look."""

        # A guest has no place of its own to keep the cache, and asks for one form of all probes after the other.
        guest = {key: os.environ.get(f"HOOKLINE_{key.upper()}") for key in ("cache", "attach")}
        self.defaults: Tables = {
            "collector": {key: value for key, value in guest.items() if value},
            "metrics": {"listen": ""},
            "pipeline": {"batch_age_ms": 20},
            # So that whatever was before an event has been delivered before it: see `sync`.
            "enrich.hashes": {"order_ms": 2000, "close_wait_s": 0.0},
            "sinks.file": {
                "type": "file",
                "path": str(self.output),
                "schema": schema,
                "when_full": "block",
                "rotate_bytes": 0,
            },
        }
        self._ledger = folder / "ledger.json"
        self._log = folder / "log"
        self._options = options
        self._ready = ready
        self._sources = sources
        self._lines = Lines(self.output)
        self._marks = 0
        self._seen = 0
        self.configure(tables or {})

    def configure(self, tables: Tables) -> None:
        """Write the configuration: `tables` over the defaults."""
        self.config.write_text(toml(merged(self.defaults, tables)))

    def __enter__(self) -> Collector:
        self.started = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*HOOKLINE, "run", "--config", self.config, "--ledger", self._ledger, *self._options],
                cwd=self._sources,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            if self._ready:
                self.wait_for_log(self._ready)
        except BaseException as error:
            self._kill()
            error.add_note(f"The collector said: {self._log.read_text()[-2000:]}")
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> list[dict[str, Any]]:
        """What the collector said so far."""
        lines = self._log.read_bytes().splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]

    def wait_for_log(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """The lines of the log whose event begins like that, as soon as there are `count`."""

        def look() -> list[dict[str, Any]] | None:
            found = [line for line in self.log() if line["event"].startswith(event)]
            if len(found) >= count:
                return found
            assert self.process.poll() is None, f"the collector ended: {self._log.read_text()}"
            return None

        return until(look, f"{count} times {event!r} in the log")

    def read(self) -> list[Event]:
        """All events so far; every line must be one JSON object."""
        for line in self._lines:
            event = json.loads(line)
            assert isinstance(event, dict)
            self.events.append(event)
        return self.events

    def forget(self) -> None:
        """Begin anew with the file that is now at the output's path."""
        self._lines = Lines(self.output)
        self.events.clear()
        self._seen = 0

    def wait_for(self, wanted: Callable[[Event], bool], count: int = 1) -> list[Event]:
        """The events that are `wanted`, as soon as there are `count`."""
        found: list[Event] = []
        seen = 0

        def look() -> list[Event] | None:
            nonlocal seen
            new = self.read()[seen:]
            seen += len(new)
            found.extend(event for event in new if wanted(event))
            return found if len(found) >= count else None

        return until(look, f"{count} events, of which {len(found)} came")

    def sync(self) -> list[Event]:
        """Whatever was before this call is delivered on return, or counted as dropped. Gives all events so far."""
        mark = f"hookline-mark-{os.getpid()}-{id(self)}-"
        wait_until = 0.0

        def look() -> bool:
            nonlocal wait_until
            if time.monotonic() > wait_until:  # the first time, or where the ring had no room for the mark
                self._marks += 1
                subprocess.run(["true", f"{mark}{self._marks}"], check=True)
                wait_until = time.monotonic() + 2
            seen, self._seen = self._seen, len(self.read())
            new = (str(event.get("argv", event.get("process"))) for event in self.events[seen:])
            return any(f"{mark}{self._marks}" in text for text in new)

        until(look, "the mark")
        return self.events

    def skipped_by_kernel(self) -> int:
        """How often the kernel did not run a program of the collector's, as the kernel says; Linux 5.10 does not."""
        total = 0
        for path in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                lines = path.read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("recursion_misses:"))
        return total

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def reload(self, tables: Tables, *, says: str = "the configuration was read again") -> None:
        """Change the configuration while the collector runs; returns when it has answered."""
        before = sum(line["event"].startswith(says) for line in self.log())
        self.configure(tables)
        self.send(signal.SIGHUP)
        self.wait_for_log(says, before + 1)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Outcome:
        """Stop it, and see what then became of everything. It must end with exit code 0."""
        at = time.monotonic()
        self.send(number)
        code = self.process.wait(LIMIT_S)
        assert code == 0, self._log.read_text()
        return self.outcome(time.monotonic() - at)

    def outcome(self, seconds: float = 0.0) -> Outcome:
        """What a collector that has ended left."""
        said = self._log.read_text()
        assert "Traceback" not in said
        return Outcome(json.loads(self._ledger.read_bytes()), self.read(), seconds, said)


def files_watched(collector: Collector) -> list[str]:
    """The names of what the collector has found for its user probes, one a file."""
    return [line["files"] for line in collector.log() if line["event"] == "watching a file"]
