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
from typing import NamedTuple

import msgspec

from probes.errors import FeatureMissing, LoadError, ProbeError
from probes.kernel import bpf, filters
from probes.kernel.attach import attach
from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host
from probes.kernel.fit import Fitted, fit
from probes.kernel.headers import write_tree
from probes.kernel.messages import MAPS, Answer, FormReport, HookReport, ProbeReport, Request, send
from probes.kernel.program import TRACING, load, program_key, with_maps
from probes.kernel.source import TAIL_MAPS, TAIL_SLOTS, compose, structs, tail_slots
from probes.probe import Hook, TailProgram
from probes.registry import all_probes

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


def _fit_all(request: Request, features: Features, btf: Btf) -> tuple[list[Fitted], list[ProbeReport]]:
    fitted: list[Fitted] = []
    refused: list[ProbeReport] = []
    for name in request.probes:
        try:
            fitted.append(fit(all_probes()[name], features, btf, request.attach))
        except FeatureMissing as error:
            refused.append(ProbeReport(name, error=str(error)))
    return fitted, refused


class _Module:
    """All probes' programs in one bcc module; what is open stays open."""

    def __init__(self, text: str, tree: Path) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        os.chdir(tree)  # clang looks there too, and the user's folder may hold anything
        import bcc

        with _captured() as log:
            try:
                self.bpf = bcc.BPF(text=text, cflags=list(_FLAGS))
            except Exception as error:
                raise LoadError(f"the probes do not compile: {error}", log()) from error

    def map_fd(self, name: str) -> int:
        return int(self.bpf[name].map_fd)

    def code(self, program: str) -> bytes:
        """The instructions of a function. Raises `LoadError`."""
        try:
            return bytes(self.bpf.dump_func(program))
        except Exception as error:
            raise LoadError(f"{program} is not in the compiled text: {error}") from error


class _Loaded(NamedTuple):
    fitted: Fitted
    programs: dict[str, int]
    """Descriptors by name; of tracing programs, by name and function."""

    extra_maps: list[int]


def _load_probe(module: _Module, fitted: Fitted, slots: dict[TailProgram, int], btf: Btf) -> _Loaded:
    """Verify everything of one probe and fill its tail slots. Raises `LoadError`."""
    programs: dict[str, int] = {}
    for tail in fitted.tails:
        if tail.mechanism in TRACING:
            continue
        fd = load(tail.mechanism, tail.program, module.code(tail.program))
        bpf.update(module.map_fd(TAIL_MAPS[tail.mechanism]), struct.pack("<I", slots[tail]), struct.pack("<I", fd))
        programs[tail.program] = fd
    extra_maps: list[int] = []
    for hook in fitted.hooks:
        if hook.mechanism in TRACING:
            extra_maps += _load_tracing(module, fitted, hook, slots, btf, programs)
        elif hook.program not in programs:
            programs[hook.program] = load(hook.mechanism, hook.program, module.code(hook.program))
    return _Loaded(fitted, programs, extra_maps)


def _load_tracing(
    module: _Module,
    fitted: Fitted,
    hook: Hook,
    slots: dict[TailProgram, int],
    btf: Btf,
    programs: dict[str, int],
) -> list[int]:
    """A tracing program belongs to one function, and so do its tail programs: they get a map of their own."""
    function = btf.function(hook.target) or 0
    tails = [tail for tail in fitted.tails if tail.mechanism == hook.mechanism]
    name = TAIL_MAPS[hook.mechanism]
    maps: dict[int, int] = {}
    if tails:
        maps[module.map_fd(name)] = bpf.create_map(bpf.PROG_ARRAY, 4, 4, TAIL_SLOTS, name=name)
    for tail in tails:
        fd = load(tail.mechanism, tail.program, with_maps(module.code(tail.program), maps), function)
        for own in maps.values():
            bpf.update(own, struct.pack("<I", slots[tail]), struct.pack("<I", fd))
        programs[f"{tail.program} {hook.target}"] = fd
    code = with_maps(module.code(hook.program), maps)
    programs[program_key(hook)] = load(hook.mechanism, hook.program, code, function)
    return list(maps.values())


def _attach(loaded: _Loaded) -> list[int]:
    """The links of all hooks, or of none. Raises `LoadError`: half a probe would miss things in silence."""
    links: list[int] = []
    for hook in loaded.fitted.hooks:
        if hook.files is not None:
            continue  # the collector attaches it: see probes.kernel.uprobes
        try:
            links.append(attach(loaded.programs[program_key(hook)], hook.mechanism, hook.target))
        except OSError as error:
            for link in links:
                os.close(link)
            raise LoadError(f"cannot attach to {hook.at}: {error.strerror}") from error
    return links


def _load(request: Request, tree: Path) -> tuple[Answer, list[int]]:
    btf = Btf.read()
    fitted, reports = _fit_all(request, Features.probe(Host.current(), btf), btf)
    if not fitted:
        return Answer(tuple(reports)), []
    text = compose(fitted, btf, ring_pages=request.ring_bytes // os.sysconf("SC_PAGESIZE"))
    write_tree(tree, btf, structs(fitted), {})
    module = _Module(text, tree)
    maps = {name: module.map_fd(name) for name in MAPS}
    filters.apply(
        request.settings,
        settings_fd=maps["hl_settings"],
        exe_fd=maps["hl_excluded_exe"],
        uid_fd=maps["hl_excluded_uid"],
    )
    slots = tail_slots(fitted)
    loaded: list[_Loaded] = []
    for each in fitted:
        try:
            loaded.append(_load_probe(module, each, slots, btf))
        except LoadError as error:
            reports.append(ProbeReport(each.probe.name, error=str(error), log=error.log))
    links: list[int] = []
    for one in loaded:
        try:
            links += _attach(one)
        except LoadError as error:
            reports.append(ProbeReport(one.fitted.probe.name, error=str(error), log=error.log))
        else:
            reports.append(_report(one.fitted))
    programs = [(f"{one.fitted.probe.name}/{name}", fd) for one in loaded for name, fd in one.programs.items()]
    extra_maps = [fd for one in loaded for fd in one.extra_maps]
    fds = [*maps.values(), *(fd for _name, fd in programs), *extra_maps, *links]
    return Answer(tuple(reports), tuple(name for name, _fd in programs), len(extra_maps), len(links)), fds


def _report(fitted: Fitted) -> ProbeReport:
    missing = [HookReport(hook.at, hook.sees, missing=reason) for hook, reason in fitted.missing]
    return ProbeReport(
        fitted.probe.name,
        fitted.form.name,
        (*missing, *(HookReport(hook.at, hook.sees) for hook in fitted.hooks)),
        tuple(FormReport(form.name, reason) for form, reason in fitted.passed_over),
    )


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
