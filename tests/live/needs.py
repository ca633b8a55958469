# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of what not every kernel has, such as modules: deselected and told where the running one has not.

Not skipped: a skip says that a test should have run here, and HOOKLINE_REQUIRE forbids it. These run in the guests of
tests/kernels, for which every test is collected on any host.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

FEATURES: Mapping[str, Callable[[], bool]] = {
    "kprobes": Path("/sys/bus/event_source/devices/kprobe").exists,
    "modules": Path("/proc/modules").exists,
    "test_module": lambda: "HOOKLINE_TEST_MODULE" in os.environ,
    "usb": lambda: any(Path("/sys/bus/usb/devices").glob("usb*")),
}
"""What a test can need, and whether it is there."""

LEFT_OUT = pytest.StashKey[Counter[str]]()


def lacking(item: pytest.Item) -> str:
    """The first feature that a test needs and the kernel has not; empty if it has all."""
    wanted = [feature for mark in item.iter_markers("needs") for feature in mark.args]
    return next((feature for feature in wanted if not FEATURES[feature]()), "")


def by_function(attach: str | None) -> bool:
    """Whether a probe that has a function form is in it, where `attach` was asked for (None: the best form)."""
    return FEATURES["kprobes"]() and attach != "tracepoint"


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take what cannot run here out of `items`."""
    if config.option.collectonly:
        return
    without = {item: lacking(item) for item in items}
    left_out = [item for item in items if without[item]]
    if left_out:
        config.stash[LEFT_OUT] = Counter(without[item] for item in left_out)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not without[item]]


def tell(reporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say at the end what was left out."""
    for feature, count in sorted(config.stash.get(LEFT_OUT, Counter()).items()):
        reporter.write_line(f"live: {count} left out: this kernel has no {feature}; they run in tests/kernels")
