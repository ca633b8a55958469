# SPDX-License-Identifier: GPL-2.0-or-later
"""Every probe's live tests, in a guest with each of Debian's kernels, with each form of the probes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.matrix import FORMS, Plan, Run
from tests.kernels.releases import RELEASES, Release


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_live_tests(release: Release, form: str, plan: Plan, guests: Callable[[Release], Run]) -> None:
    """The live tests that share a collector pass on this kernel with this form, and the guest ends in peace."""
    report = guests(release).report(plan.tests[form])
    assert not report, report
