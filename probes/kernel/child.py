# SPDX-License-Identifier: GPL-2.0-or-later
"""The loader child: ``python -m probes.kernel.child SOCKET``.

bcc and LLVM take over 120 MB and stay in this process. It reads one request
from the socket, compiles, verifies and attaches, answers, hands over the
descriptors that keep everything attached, and ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from probes.errors import FeatureMissing, LoadError, ProbeError
from probes.kernel import bpf, filters
from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host
from probes.kernel.headers import write_tree
from probes.kernel.messages import MAPS, Answer, HookReport, ProbeReport, Request, send
from probes.kernel.source import Fitted, compose, fit, structs, tail_slots
from probes.registry import all_probes

_PROGRAM_TYPES = {"tracepoint": 5, "raw_tracepoint": 17}
"""BPF_PROG_TYPE_TRACEPOINT and BPF_PROG_TYPE_RAW_TRACEPOINT of linux/bpf.h."""


_FLAGS = ("-Wno-everything", "-g0", "-Xclang", "-disable-llvm-passes")
"""bcc optimises what clang gives it: doing so once, without debug information, takes a third less time."""


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Catch what clang and the verifier print on descriptor 2."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)

        def read() -> str:
            log.seek(0)
            return log.read().decode("utf-8", "replace")

        try:
            yield read
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _fit_all(names: tuple[str, ...], features: Features, btf: Btf) -> tuple[list[Fitted], list[ProbeReport]]:
    fitted: list[Fitted] = []
    refused: list[ProbeReport] = []
    for name in names:
        try:
            fitted.append(fit(all_probes()[name], features, btf))
        except FeatureMissing as error:
            refused.append(ProbeReport(name, error=str(error)))
    return fitted, refused


class _Program:
    """All probes' programs in one bcc module; what is open stays open."""

    def __init__(self, text: str, tree: Path) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        os.chdir(tree)  # clang looks there too, and the user's folder may hold anything
        import bcc

        self._lib = bcc.lib
        with _captured() as log:
            try:
                self.bpf = bcc.BPF(text=text, cflags=list(_FLAGS))
            except Exception as error:
                raise LoadError(f"the probes do not compile: {error}", log()) from error

    def map_fd(self, name: str) -> int:
        return int(self.bpf[name].map_fd)

    def load(self, program: str, mechanism: str) -> int:
        """Verify `program`; gives its descriptor. Raises `LoadError`."""
        with _captured() as log:
            try:
                return int(self.bpf.load_func(program, _PROGRAM_TYPES[mechanism]).fd)
            except Exception as error:
                raise LoadError(f"the kernel refused {program}: {error}", log()) from error

    def attach(self, program_fd: int, mechanism: str, target: str) -> int:
        """Attach; gives the descriptor whose closing detaches. Raises `LoadError`."""
        with _captured() as log:
            if mechanism == "raw_tracepoint":
                fd = self._lib.bpf_attach_raw_tracepoint(program_fd, target.encode())
            else:
                category, _, name = target.encode().partition(b":")
                fd = self._lib.bpf_attach_tracepoint(program_fd, category, name)
            if fd < 0:
                raise LoadError(f"cannot attach to {mechanism}:{target}", log())
        return int(fd)


def _load_probe(program: _Program, fitted: Fitted, slots: dict[Any, int]) -> list[tuple[str, int]]:
    """Verify everything of one probe and fill its tail slots; gives its programs' descriptors."""
    programs = []
    for tail in fitted.tails:
        fd = program.load(tail.program, tail.mechanism)
        tail_map = program.map_fd("hl_raw_tails" if tail.mechanism == "raw_tracepoint" else "hl_tails")
        bpf.update(tail_map, struct.pack("<I", slots[tail]), struct.pack("<I", fd))
        programs.append((tail.program, fd))
    programs += [
        (name, program.load(name, mechanism))
        for name, mechanism in dict.fromkeys((hook.program, hook.mechanism) for hook in fitted.hooks)
    ]
    return programs


def _load(request: Request, tree: Path) -> tuple[Answer, list[int]]:
    btf = Btf.read()
    fitted, reports = _fit_all(request.probes, Features.probe(Host.current(), btf), btf)
    if not fitted:
        return Answer(tuple(reports)), []
    text = compose(fitted, btf, ring_pages=request.ring_bytes // os.sysconf("SC_PAGESIZE"))
    write_tree(tree, btf, structs(fitted), {})
    program = _Program(text, tree)
    maps = {name: program.map_fd(name) for name in MAPS}
    filters.apply(
        request.settings,
        settings_fd=maps["hl_settings"],
        exe_fd=maps["hl_excluded_exe"],
        uid_fd=maps["hl_excluded_uid"],
    )
    slots = tail_slots(fitted)
    loaded: list[tuple[Fitted, dict[str, int]]] = []
    for each in fitted:
        try:
            loaded.append((each, dict(_load_probe(program, each, slots))))
        except LoadError as error:
            reports.append(ProbeReport(each.probe.name, error=str(error), log=error.log))
    programs: list[str] = []
    fds = list(maps.values())
    for _each, by_name in loaded:
        programs += by_name
        fds += by_name.values()
    links: list[int] = []
    for each, by_name in loaded:
        hooks = [HookReport(hook.at, hook.sees, missing=reason) for hook, reason in each.missing]
        own: list[int] = []
        try:
            for hook in each.hooks:
                own.append(program.attach(by_name[hook.program], hook.mechanism, hook.target))
                hooks.append(HookReport(hook.at, hook.sees))
        except LoadError as error:
            # Half a probe would miss things in silence; the others run.
            for link in own:
                os.close(link)
            reports.append(ProbeReport(each.probe.name, error=str(error), log=error.log))
        else:
            links += own
            reports.append(ProbeReport(each.probe.name, tuple(hooks)))
    return Answer(tuple(reports), tuple(programs), len(links)), fds + links


def main() -> None:
    """Answer one request on the socket whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    fds: list[int] = []
    try:
        request = msgspec.json.decode(channel.makefile("rb").readline(), type=Request)
        with tempfile.TemporaryDirectory(prefix="hookline-") as tree:
            answer, fds = _load(request, Path(tree))
    except ProbeError as error:
        answer = Answer((), error=str(error), log=getattr(error, "log", ""))
    except OSError as error:
        answer = Answer((), error=f"the loader failed: {error}")
    send(channel, answer, fds)
    channel.close()
    # bcc's exit handlers would disable the perf events that the collector now holds.
    os._exit(0)


if __name__ == "__main__":
    main()
