# SPDX-License-Identifier: GPL-2.0-or-later
"""From a probe's C to an `Object`, with bcc. Imported only where something must be compiled, or looked at again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from probes.errors import FeatureMissing, LoadError
from probes.kernel import bpf
from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host
from probes.kernel.fit import Fitted, fit
from probes.kernel.headers import write_tree
from probes.kernel.histogram import programs as programs_timed
from probes.kernel.messages import FormReport, HookReport, Request
from probes.kernel.object import RDONLY_CAST, Link, Map, Object, Program, boot_id, relocations, with_kfunc
from probes.kernel.program import TRACING
from probes.kernel.source import compose, tail_slots
from probes.probe import Hook
from probes.registry import all_probes

if TYPE_CHECKING:
    import bcc

_FLAGS = ("-Wno-everything", "-g0", "-Xclang", "-disable-llvm-passes")
"""bcc optimises what clang gives it: doing so once, without debug information, takes a third less time."""


class Compiler:
    """Compiles probes for this kernel, one after the other."""

    def __init__(self, request: Request) -> None:
        self.scratch = Path()
        """An empty folder, before anything is compiled."""

        self._request = request
        self._btf = Btf.read()
        self._features = Features.probe(Host.current(), self._btf)

    def is_best(self, compiled: Object) -> bool:
        """Whether this is still what would be compiled: the same form with the same hooks."""
        try:
            fitted = self._fit(compiled.probe, {})
        except FeatureMissing as error:
            return str(error) == compiled.error
        wanted = [(_label(hook), hook.at) for hook in fitted.hooks]
        return (fitted.form.name, wanted) == (compiled.form, [(link.program, link.at) for link in compiled.links])

    def _fit(self, name: str, refused: Mapping[str, str]) -> Fitted:
        return fit(all_probes()[name], self._features, self._btf, self._request.attach, refused)

    def compile(self, name: str, refused: Mapping[str, str]) -> Object:
        """The probe of that name in a form that is not `refused`, or the reason why it cannot run here."""
        try:
            fitted = self._fit(name, refused)
            tree = self.scratch / f"{name}-{fitted.form.name}"
            write_tree(tree, self._btf, fitted.structs, {})
            text = compose(fitted, self._btf, kinds=self._request.kinds, histogram=self._request.histogram)
            with _compiled(text, tree) as module:
                return self._object(fitted, module)
        except FeatureMissing as error:
            return _failure(name, str(error))
        except LoadError as error:
            return _failure(name, str(error), error.log)

    def _object(self, fitted: Fitted, module: bcc.BPF) -> Object:
        names = _map_names(module)
        programs: dict[str, Program] = {}
        for hook in fitted.hooks:
            for program in self._programs(fitted, hook, module, names):
                programs.setdefault(program.label, program)
        used = {name for program in programs.values() for _at, name in program.maps}
        return Object(
            probe=fitted.probe.name,
            form=fitted.form.name,
            links=tuple(
                Link(_label(hook), hook.mechanism, "" if hook.files else hook.target, hook.at, hook.sees)
                for hook in fitted.hooks
            ),
            programs=tuple(sorted(programs.values(), key=lambda program: program.slot is None)),
            maps={name: _map(fd) for fd, name in names.items() if name in used},
            timed=programs_timed(fitted) if self._request.histogram else (),
            missing=tuple(HookReport(hook.at, hook.sees, missing=reason) for hook, reason in fitted.missing),
            passed_over=tuple(FormReport(form.name, reason) for form, reason in fitted.passed_over),
            boot=boot_id() if fitted.passed_over else "",
        )

    def _programs(self, fitted: Fitted, hook: Hook, module: bcc.BPF, names: dict[int, str]) -> Iterator[Program]:
        """A hook's program and those that it may call: of fentry and fexit, each for the hook's function alone."""
        slots = tail_slots(fitted)
        traced = hook.mechanism in TRACING
        function = (self._btf.function(hook.target) or 0) if traced else 0
        callees = [tail for tail in fitted.tails if tail.mechanism == hook.mechanism or not traced]
        wanted = [
            (tail.program, tail.mechanism, slots[tail]) for tail in callees if traced or tail.mechanism not in TRACING
        ]
        for name, mechanism, slot in (*wanted, (hook.program, hook.mechanism, None)):
            code = with_kfunc(_code(module, name), self._btf.function(RDONLY_CAST) or 0)
            target = hook.target if traced else ""
            yield Program(name, mechanism, code, relocations(code, names), function, target, slot)


def _label(hook: Hook) -> str:
    return f"{hook.program} {hook.target}" if hook.mechanism in TRACING else hook.program


def _failure(name: str, error: str, log: str = "") -> Object:
    return Object(name, error=error, log=log, boot=boot_id())


@contextlib.contextmanager
def _compiled(text: str, tree: Path) -> Iterator[bcc.BPF]:
    import bcc

    os.environ["BCC_KERNEL_SOURCE"] = str(tree)
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(tree)  # clang looks there too, and the user's folder may hold anything
    try:
        with _captured() as log:
            try:
                module = bcc.BPF(text=text, cflags=list(_FLAGS))
            except Exception as error:
                raise LoadError(f"the probe does not compile: {error}", log()) from error
        yield module
        module.cleanup()
    finally:
        os.fchdir(before)
        os.close(before)


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Catch what clang prints on descriptor 2."""
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


def _code(module: bcc.BPF, program: str) -> bytes:
    try:
        return bytes(module.dump_func(program))
    except Exception as error:
        raise LoadError(f"{program} is not in the compiled text: {error}") from error


def _map_names(module: bcc.BPF) -> dict[int, str]:
    """Names of the module's maps by descriptor."""
    import bcc

    name_of = bcc.lib.bpf_table_name
    name_of.restype, name_of.argtypes = ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_size_t)  # bcc leaves it undeclared
    count = bcc.lib.bpf_num_tables(module.module)
    tables = range(count)
    return {bcc.lib.bpf_table_fd_id(module.module, at): name_of(module.module, at).decode("ascii") for at in tables}


def _map(fd: int) -> Map:
    return Map(*bpf.map_info(fd))
