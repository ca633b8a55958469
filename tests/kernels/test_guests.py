# SPDX-License-Identifier: GPL-2.0-or-later
"""Every probe's live tests, in a guest with each of Debian's kernels, with each form of the probes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kernels.matrix import Run
from tests.kernels.releases import RELEASES, Release
from tests.kernels.results import lost
from tests.live.guests import FORMS


@pytest.mark.timeout(3600)  # s: the first waits for the guests; one that hangs is ended long before
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_live_tests(release: Release, form: str, guests: Callable[[Release], Run]) -> None:
    """Every probe's live tests pass here with this form; none on record is missing; the guest ends in peace."""
    report = guests(release).report(form)
    assert not report, report
    assert not lost(guests(release), form)
