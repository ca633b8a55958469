# SPDX-License-Identifier: GPL-2.0-or-later
"""How a request can fail."""

from __future__ import annotations


class Refused(Exception):
    """The server answered with an error status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"status {status}, {words}")
        self.status = status


class Unreachable(Exception):
    """There was no answer; says why in a few words."""
