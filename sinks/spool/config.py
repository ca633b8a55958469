# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``[spool]`` may hold."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sinks.checks import check_texts

_MIB = 1 << 20


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where batches wait that a sink has not acknowledged, and for how long."""

    path: Annotated[str, msgspec.Meta(min_length=1)] = "/var/lib/hookline/spool.db"
    """The SQLite file, mode 0600; its directory is made, mode 0700, where it does not exist."""

    max_bytes: Annotated[int, msgspec.Meta(ge=_MIB, le=1 << 44)] = 1024 * _MIB
    """Bytes of compressed batches that are kept."""

    max_age_s: Annotated[float, msgspec.Meta(ge=1.0)] = 7 * 86_400.0
    """Seconds after which a batch is no longer worth delivering."""

    when_full: Literal["drop_oldest", "drop_newest", "block"] = "drop_oldest"
    """At `max_bytes`, or on a full disk: which batches are given up, or let the pipeline wait."""

    def __post_init__(self) -> None:
        check_texts(self)
        # SQLite takes some others as special, such as ":memory:", and keeps nothing then.
        if not self.path.startswith("/"):
            raise ValueError("path must be absolute, as in /var/lib/hookline/spool.db")
