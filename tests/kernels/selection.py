# SPDX-License-Identifier: GPL-2.0-or-later
"""The live tests that are marked `guest`, by form, with the probes that each proves.

`python -m tests.kernels.selection EXPRESSION FORM...` prints them as JSON: a list of `Selected`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec
import pytest

from tests.live.guests import FORMS, proved_by

LIVE = ("-p", "no:cacheprovider", "-m", "guest", "tests/live")


class Selected(msgspec.Struct, frozen=True):
    """One test in one form."""

    test: str
    """pytest's id."""

    form: str
    """Its `--attach`."""

    probes: tuple[str, ...]
    sees: str = ""
    """What of them it proves, where a kernel may miss just that."""


class _Seen:
    def __init__(self) -> None:
        self.selected: dict[tuple[str, str], Selected] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            assert isinstance(item, pytest.Function)
            mark = item.get_closest_marker("guest")
            form = str(item.callspec.params["attach"])
            if form not in FORMS:  # nothing new in the forms that are asked for: pytest's mark of no parameter
                continue
            # Each test once, with the first of its parameters: for all of them there is no time.
            sees = str(mark.kwargs.get("sees", "")) if mark else ""
            which = item.nodeid if mark and mark.kwargs.get("every") else item.nodeid.partition("[")[0]
            self.selected.setdefault((which, form), Selected(item.nodeid, form, proved_by(item), sees))


def select(selection: str, forms: Sequence[str]) -> list[Selected]:
    """Ask pytest; to be called in a process of its own."""
    seen = _Seen()
    attach = [argument for form in forms for argument in ("--attach", form)]
    code = pytest.main(["--collect-only", "-qq", "--no-summary", *attach, *LIVE, "-k", selection], plugins=[seen])
    assert code == 0, code
    return [*seen.selected.values()]


if __name__ == "__main__":
    found = select(sys.argv[1], sys.argv[2:])
    print("\n", msgspec.json.encode(found).decode(), sep="")
