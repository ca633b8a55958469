# SPDX-License-Identifier: GPL-2.0-or-later
"""Which form of a probe runs: they do not all see the same."""

from __future__ import annotations

from functools import cache
from typing import cast

from probes.kernel.btf import Btf
from probes.kernel.features import Features, Host
from probes.kernel.fit import fit
from probes.probe import Attach
from probes.registry import all_probes
from tests.live.guests import offered


@cache
def at_function(probe: str, attach: str | None) -> bool:
    """Whether it is told at a function of the kernel, before it is done, rather than when the system call returns."""
    if attach is not None and attach in offered():  # reading a kernel's types takes a guest a minute
        return offered()[attach][probe]["form"] != "tracepoint"
    btf = Btf.read()
    features = Features.probe(Host.current(), btf)
    return fit(all_probes()[probe], features, btf, cast("Attach", attach or "best")).form.name != "tracepoint"
