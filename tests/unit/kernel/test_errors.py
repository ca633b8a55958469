# SPDX-License-Identifier: GPL-2.0-or-later
"""The exception tree of probes."""

from __future__ import annotations

import pytest

from probes import errors
from probes.errors import FeatureMissing, LoadError, ProbeError


@pytest.mark.parametrize(
    "name", ["PreflightError", "FeatureMissing", "BtfError", "LoadError", "RecordError", "RecordingError"]
)
def test_one_base_catches_all(name: str) -> None:
    """Whoever catches ``ProbeError`` catches everything that probes raise on purpose."""
    assert issubclass(getattr(errors, name), ProbeError)
    assert name in str(errors.__doc__)


def test_load_error_keeps_the_end_of_the_log() -> None:
    """Of a long verifier log the last lines stay, which hold the verdict; the message stays one sentence."""
    error = LoadError("the verifier refused exec", "\n".join(f"line {number}" for number in range(1000)))
    assert str(error) == "the verifier refused exec"
    assert error.log.splitlines()[-1] == "line 999"
    assert len(error.log.splitlines()) == 30


def test_missing_feature_need_not_be_a_member() -> None:
    """A missing hook has a sentence only; a missing member also has its structure's name."""
    assert FeatureMissing("this kernel has no kprobes").struct == ""
    assert FeatureMissing("no f_mode", "file", "f_mode").member == "f_mode"
