# SPDX-License-Identifier: GPL-2.0-or-later
"""What no name of a file or a host may be, for the post-init of configurations: each raises ValueError."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec


def check_texts(table: msgspec.Struct) -> None:
    """No text of `table` has a NUL, which ends it for the system."""
    for field in table.__struct_fields__:
        value = getattr(table, field)
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and "\0" in text:
                raise ValueError(f"{field} must not hold a NUL character")


def check_host(name: str, key: str) -> None:
    """`name` is an IP address, or one that can be asked for in the DNS."""
    try:
        ip_address(name)
    except ValueError:
        if not _is_host_name(name):
            raise ValueError(f"{key} must name hosts, which {name!r} is not") from None


def _is_host_name(name: str) -> bool:
    if any(character.isspace() or character in "/@[]:%" for character in name):
        return False
    try:
        for label in name.removesuffix(".").lower().split("."):
            if not label:
                return False
            label.encode("idna")  # as the system's resolver is asked
            if label.startswith("xn--") or not label.isascii():
                import idna  # as httpx does; 5 ms that few need

                idna.decode(idna.encode(label))
    except UnicodeError:  # that of idna is one
        return False
    return True
