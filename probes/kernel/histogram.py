# SPDX-License-Identifier: GPL-2.0-or-later
"""How long programs take, counted in the kernel; see HL_HISTOGRAM in hookline.h. For benchmarks."""

from __future__ import annotations

from probes.kernel.fit import Fitted


def timed(text: str, fitted: Fitted) -> str:
    raise NotImplementedError
