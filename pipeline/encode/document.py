# SPDX-License-Identifier: GPL-2.0-or-later
"""From members with dotted names to a function that writes nested JSON.

What an event says comes from a few sources: its own fields, and the pieces of
its record (`probes.event`). The members of one piece are written by a function
of that piece, whose results are remembered, so that most of a line is put
together from ready fragments by a single ``%``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from probes.event import HostEvent

Encode = Callable[[Sequence[HostEvent]], list[bytes]]
"""Events of one kind -> their lines, without line ends."""


class Leaf(NamedTuple):
    """The JSON of one value."""

    template: str
    """For ``%``."""

    values: tuple[str, ...] = ()
    """The expressions that fill it: over the event ``e``, or over the names of its source's fields."""

    optional: bool = False
    """Whether the single expression gives ``b''`` where the value is unknown; then the member is left out."""


class Member(NamedTuple):
    """One member of a document."""

    name: str
    """Dotted: ``process.parent.pid``."""

    leaf: Leaf
    source: str = ""
    """The source that the expressions look at; empty: the event itself."""


class Source(NamedTuple):
    """A part of events that many have in common."""

    key: str
    """The expression over the event ``e`` that tells one such part from another."""

    names: tuple[str, ...]
    read: Callable[[Any], Sequence[Any]]
    """The values of `names`."""

    remember: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]
    """Wraps the function that writes the fragments, if they are worth keeping."""


Tree = dict[str, "Member | Tree"]


def wrap(members: bytes) -> bytes:
    """An object of `members`, each with a comma before it; nothing of none."""
    return b"{" + members[1:] + b"}" if members else b""


@dataclass
class _Members:
    """Members of one object: what is always there, as a template with its values, and the rest as expressions.

    Such an expression gives a member with a comma before it, or nothing.
    """

    always: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)

    def add(self, name: str, leaf: Leaf) -> None:
        if leaf.optional:
            self.optional.append(f"(b',\"{name}\":' + v if (v := {leaf.values[0]}) else b'')")
        else:
            self.always.append(f'"{name}":{leaf.template}')
            self.values += leaf.values

    def add_fragment(self, variable: str, *, always: bool) -> None:
        if not always:
            self.optional.append(variable)
            return
        self.always = [",".join(self.always) + "%s"]
        self.values.append(variable)

    def template(self) -> str:
        return ",".join(self.always) + "%s" * len(self.optional)

    def object(self) -> Leaf:
        """The object; optional if nothing is always in it."""
        if self.always:
            return Leaf(f"{{{self.template()}}}", (*self.values, *self.optional))
        return Leaf("%s", (f"wrap({' + '.join(self.optional)})",), optional=True)

    def expression(self, *, comma: bool) -> str:
        """All members as one expression; `comma`: with a comma before the first that is always there."""
        if not self.always:
            return " + ".join(self.optional)
        template = ("," * comma + self.template()).encode("ascii")
        return f"{template!r} % ({''.join(f'{value}, ' for value in (*self.values, *self.optional))})"


class Document(NamedTuple):
    """The lines of one kind's events, ready to be written: by a function in Python, or by steps in C."""

    name: str
    template: bytes
    values: tuple[str, ...]
    """The expressions that fill it: over the event ``e``, or single fragments."""

    fragments: Mapping[str, tuple[str, ...]]
    """The names of the fragments of each source."""

    keys: Mapping[str, str]
    """The expression over the event that tells what a source says, by the name of the source."""

    scope: dict[str, Any]
    """What the expressions use; ``write_SOURCE`` gives the fragments for a key: a tuple, or the only one as it is."""

    def function(self) -> Encode:
        """The encoder in Python."""
        lines = ["def encode(events):", "    lines = []", "    for e in events:"]
        for source, variables in self.fragments.items():
            lines.append(f"        {', '.join(variables)} = write_{source}({self.keys[source]})")
        lines += [f"        lines.append(template % ({', '.join(self.values)},))", "    return lines"]
        encode: Encode = _run("encode", lines, self.name, self.scope)
        return encode


def document(
    name: str, members: Iterable[Member], sources: Mapping[str, Source], scope: Mapping[str, Any], more: str = ""
) -> Document:
    """The document of these members. Expressions may use what is in `scope`, and `wrap`.

    `more` is an expression of further members, each with a comma before it.

    Raises:
        TypeError: a name is used twice, or as a value and as an object.
    """
    fragments: dict[str, list[str]] = {}
    root = _members(_tree(members), fragments)
    if more:
        root.optional.append(more)
    leaf = root.object()
    template = leaf.template.encode("ascii")
    names = {**scope, "wrap": wrap, "template": template}
    for source, expressions in fragments.items():
        called = sources[source]
        names[f"read_{source}"] = called.read
        made = _run(f"write_{source}", _writer(source, called, expressions), name, names)
        names[f"write_{source}"] = called.remember(made)
    variables = {source: tuple(f"{source}_{at}" for at in range(len(all))) for source, all in fragments.items()}
    keys = {source: sources[source].key for source in fragments}
    return Document(name, template, leaf.values, variables, keys, names)


def _writer(source: str, called: Source, expressions: list[str]) -> list[str]:
    """A function from a source's key to its fragments: a tuple, or the only one as it is."""
    return [
        f"def write_{source}(key):",
        f"    {''.join(f'{name}, ' for name in called.names)} = read_{source}(key)",
        *([f"    return {expressions[0]}"] if len(expressions) == 1 else []),
        *([f"    return ({', '.join(expressions)})"] if len(expressions) > 1 else []),
    ]


def _run(function: str, lines: list[str], name: str, names: dict[str, Any]) -> Any:
    exec(compile("\n".join(lines), f"<{function} of {name}>", "exec"), names)  # noqa: S102 - from declarations alone
    return names[function]


def _tree(members: Iterable[Member]) -> Tree:
    root: Tree = {}
    for member in members:
        *groups, last = member.name.split(".")
        tree = root
        for group in groups:
            inner = tree.setdefault(group, {})
            if isinstance(inner, Member):
                raise TypeError(f"the name {member.name} lies below a field of its own")
            tree = inner
        if last in tree:
            raise TypeError(f"the name {member.name} is used twice")
        tree[last] = member
    return root


def _sources(node: Member | Tree) -> set[str]:
    return {node.source} if isinstance(node, Member) else set().union(*map(_sources, node.values()))


def _members(tree: Tree, fragments: dict[str, list[str]] | None) -> _Members:
    """The members of `tree`. What one source alone says goes to `fragments`, unless that is what is being written."""
    members = _Members()
    alone: dict[str, Tree] = {}
    for name, node in tree.items():
        sources = _sources(node)
        if fragments is not None and len(sources) == 1 and sources != {""}:
            alone.setdefault(sources.pop(), {})[name] = node
        else:
            members.add(name, node.leaf if isinstance(node, Member) else _members(node, fragments).object())
    if fragments is not None:
        written = {source: _members(inner, None) for source, inner in alone.items()}
        # Fragments that are there in any case first: a comma before the others is then right.
        for source in sorted(written, key=lambda source: not written[source].always):
            expressions = fragments.setdefault(source, [])
            expressions.append(written[source].expression(comma=bool(members.always)))
            members.add_fragment(f"{source}_{len(expressions) - 1}", always=bool(written[source].always))
    return members
