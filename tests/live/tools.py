# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting without sleeping, running, configuring, reading a file that grows."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

_FACTOR = float(os.environ.get("HOOKLINE_TIME_FACTOR", "1"))

LIMIT_S = 30.0 * _FACTOR
"""What takes longer than this has failed; an emulated machine gets a multiple."""

_PAUSE_S = 0.005 if _FACTOR == 1 else 0.02
"""Between two looks, at first; each takes the only processor of an emulated machine from what is waited for."""

_LONG_PAUSE_S = 0.5
"""Between two looks at what takes long; on the way there, a twentieth of the time that was waited."""

NEED_MODULES = {"load_module", "usb"}
"""Probes that a kernel without loadable modules, or without kprobes and fentry, cannot have."""

Tables = Mapping[str, Mapping[str, object]]
"""A configuration: keys by table."""

Found = TypeVar("Found")


def until(look: Callable[[], Found | None], what: str, limit_s: float = LIMIT_S) -> Found:
    """What `look` gives, as soon as that is something. Fails after `limit_s`."""
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        assert waited < limit_s, f"not within {limit_s} s: {what}"
        time.sleep(min(max(_PAUSE_S, waited / 20), _LONG_PAUSE_S))
    return found


def until_collecting(log: IO[bytes]) -> None:
    """Read a collector's log up to the line that says that all its probes are there."""
    assert any(b'"collecting"' in line for line in log), "it ended before it collected"


def run(*command: str | bytes | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run to the end, which must be a good one."""
    return subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S, **options)


def wait_all(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for processes that must end well."""
    for process in processes:
        assert process.wait(LIMIT_S) == 0, process.args


def toml(tables: Tables) -> str:
    """A configuration file; JSON's texts, numbers and lists are TOML's."""
    lines = []
    for table, keys in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
    return "\n".join(lines)


def merged(*configurations: Tables) -> dict[str, dict[str, object]]:
    """Later keys over earlier ones."""
    result: dict[str, dict[str, object]] = {}
    for tables in configurations:
        for name, keys in tables.items():
            result.setdefault(name, {}).update(keys)
    return result


class Lines:
    """What a file that grows says, a line at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[bytes]:
        """The whole lines that are new."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        # As bytes, and as text by whatever Python takes for the end of a line.
        lines = whole.split(b"\n")[:-1]
        assert len(whole.decode().splitlines()) == len(lines)
        yield from lines
