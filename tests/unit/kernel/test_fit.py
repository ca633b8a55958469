# SPDX-License-Identifier: GPL-2.0-or-later
"""Which form of a probe a kernel gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes.errors import FeatureMissing
from probes.kernel import fit as module
from probes.kernel.btf import Btf
from probes.kernel.features import Features
from probes.kernel.fit import Fitted, fit
from probes.probe import Form, Hook, Ladder, Mechanism, Probe, TailProgram
from tests.unit.kernel.btf_writer import BtfWriter
from tests.unit.probes.declarations import declare

KERNEL = Features(
    release="6.1.0",
    raw_tracepoints=frozenset(),
    tracepoints=frozenset({"syscalls:sys_exit_setsid"}),
    helpers=frozenset(),
    has_kprobes=True,
    has_uprobes=False,
    has_function=lambda name: name == "ksys_setsid",
    try_tracing=lambda _name: "this kernel refuses fentry programs",
)


def form(name: Ladder, mechanism: Mechanism, target: str, *more: Hook, tails: tuple[TailProgram, ...] = ()) -> Form:
    return Form(name, (Hook(f"by_{name}", mechanism, target), *more), tails)


PROBE = Probe(
    event=declare(name="setsid"),
    forms=(
        form("fentry", "fentry", "ksys_setsid"),
        form("kprobe", "kprobe", "ksys_setsid"),
        form("tracepoint", "tracepoint", "syscalls:sys_exit_setsid"),
    ),
)


@pytest.fixture(autouse=True)
def no_structs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The common structures are another test's matter."""
    monkeypatch.setattr(module, "COMMON_STRUCTS", {})


@pytest.fixture
def btf() -> Btf:
    return Btf(BtfWriter().bytes())


def passed_over(fitted: Fitted) -> list[tuple[str, str]]:
    return [(form.name, reason) for form, reason in fitted.passed_over]


def test_the_best_form_is_taken(btf: Btf) -> None:
    """The first form that the kernel can is taken, and each better one is told with the reason why it was not."""
    fitted = fit(PROBE, KERNEL, btf)
    assert fitted.form.name == "kprobe"
    assert passed_over(fitted) == [("fentry", "this kernel refuses fentry programs")]
    fitted = fit(PROBE, replace(KERNEL, has_kprobes=False), btf)
    assert fitted.form.name == "tracepoint"
    assert [name for name, _ in passed_over(fitted)] == ["fentry", "kprobe"]
    fitted = fit(PROBE, replace(KERNEL, try_tracing=lambda _name: ""), btf)
    assert (fitted.form.name, fitted.passed_over) == ("fentry", ())


def test_a_form_can_be_forced(btf: Btf) -> None:
    """A form that is asked for is taken though a better one can be, and none else if the kernel lacks it."""
    assert fit(PROBE, KERNEL, btf, "tracepoint").form.name == "tracepoint"
    with pytest.raises(FeatureMissing, match=r"^this kernel refuses fentry programs$"):
        fit(PROBE, KERNEL, btf, "fentry")


def test_a_form_that_the_probe_does_not_have(btf: Btf) -> None:
    """A form that a probe does not have changes nothing for it."""
    assert fit(PROBE, KERNEL, btf, "uprobe").form.name == "kprobe"


def test_no_form_at_all(btf: Btf) -> None:
    """Where no form can be, the probe is refused with each one's reason."""
    with pytest.raises(FeatureMissing) as caught:
        fit(PROBE, replace(KERNEL, has_kprobes=False, tracepoints=frozenset()), btf)
    assert str(caught.value) == (
        "fentry: this kernel refuses fentry programs; "
        "kprobe: this kernel has no kprobes (CONFIG_KPROBE_EVENTS is off); "
        "tracepoint: no tracepoints can be seen: tracefs is not mounted"
    )


def test_optional_hooks(btf: Btf) -> None:
    """A form lacks an optional hook and runs; one of which all hooks are missing does not; tails go with hooks."""
    extra = Hook("extra", "tracepoint", "syscalls:sys_exit_absent", optional=True)
    tail = TailProgram("tail", "tracepoint", needs="extra")
    partial = form("tracepoint", "tracepoint", "syscalls:sys_exit_setsid", extra, tails=(tail,))
    fitted = fit(replace(PROBE, forms=(partial,)), KERNEL, btf)
    assert [hook.program for hook in fitted.hooks] == ["by_tracepoint"]
    assert [hook.program for hook, _ in fitted.missing] == ["extra"]
    assert fitted.tails == ()
    with pytest.raises(FeatureMissing, match="no tracepoint syscalls:sys_exit_absent"):
        fit(replace(PROBE, forms=(Form("tracepoint", (extra,)),)), KERNEL, btf)


def test_a_record_of_another_shape(btf: Btf) -> None:
    """A hook is left out where the tracepoint's record lacks a field that the program reads."""
    hook = Hook("by_tracepoint", "tracepoint", "syscalls:sys_exit_setsid", fields=("ret",))
    probe = replace(PROBE, forms=(Form("tracepoint", (hook,)),))
    assert fit(probe, KERNEL, btf).hooks == (hook,)
    with pytest.raises(FeatureMissing, match=r"^syscalls:sys_exit_setsid of this kernel has no field ret$"):
        fit(probe, replace(KERNEL, has_field=lambda _tracepoint, _field: False), btf)
