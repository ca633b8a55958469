# SPDX-License-Identifier: GPL-2.0-or-later
"""Flat dotted names to one template of nested JSON, so that a single ``%`` makes a whole document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Leaf(NamedTuple):
    """The JSON of one value: a ``%`` template, and the expressions that fill it, over the event ``e``."""

    template: str
    values: tuple[str, ...] = ()
    optional: bool = False
    """Whether the single expression gives ``b''`` where the value is unknown; then the member is left out."""


Tree = dict[str, "Leaf | Tree"]


def wrap(members: bytes) -> bytes:
    """An object of `members`, each with a comma before it; nothing of none."""
    return b"{" + members[1:] + b"}" if members else b""


def nest(members: Iterable[tuple[str, Leaf]]) -> Leaf:
    """The document of dotted names and their values. Expressions call `wrap`.

    Raises:
        TypeError: a name is used twice, or as a value and as an object.
    """
    root: Tree = {}
    for name, leaf in members:
        *groups, last = name.split(".")
        tree = root
        for group in groups:
            inner = tree.setdefault(group, {})
            if isinstance(inner, Leaf):
                raise TypeError(f"the name {name} lies below a field of its own")
            tree = inner
        if last in tree:
            raise TypeError(f"the name {name} is used twice")
        tree[last] = leaf
    return _object(root)


def _object(tree: Tree) -> Leaf:
    always: list[str] = []
    values: list[str] = []
    optional: list[str] = []
    for name, inner in tree.items():
        leaf = inner if isinstance(inner, Leaf) else _object(inner)
        if leaf.optional:
            (value,) = leaf.values
            optional.append(f"(b',\"{name}\":' + v if (v := {value}) else b'')")
        else:
            always.append(f'"{name}":{leaf.template}')
            values += leaf.values
    if not always:
        return Leaf("%s", (f"wrap(b''.join(({', '.join(optional)},)))",), optional=True)
    return Leaf(f"{{{','.join(always)}{'%s' * len(optional)}}}", (*values, *optional))
