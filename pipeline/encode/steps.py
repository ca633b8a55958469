# SPDX-License-Identifier: GPL-2.0-or-later
"""From a document to the steps of the writer in C (native.c).

The steps are read off the expressions that the encoder in Python is made of. What is none of the forms that the
writer knows becomes a function that it calls for each event.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from pipeline.encode.document import Document
from pipeline.encode.values import quote
from probes.event import HostEvent

try:
    from pipeline.encode import native
except ImportError:  # there was no C compiler
    native = None  # type: ignore[assignment]

IS_BUILT = native is not None
"""Whether there is a writer in C."""

(
    _NOTHING, _DECIMAL, _HEXADECIMAL, _MAPPED, _FRAGMENT, _ARGUMENTS, _ARGUMENT_LIST, _ARGUMENT_COUNT, _COMMAND_LINE,
    _TEXT, _MILLISECONDS, _TIME, _UNLESS_ZERO, _CALL, _OPEN, _CLOSE,
) = range(16)  # fmt: skip
"""As `enum operation` in native.c."""

_OF_ARGUMENTS = {"json_argv": _ARGUMENTS, "json_args": _ARGUMENT_LIST, "json_command_line": _COMMAND_LINE}
_PLACE = re.compile(rb"%(%|s|d|016x)")


class Step(NamedTuple):
    """Text, and a value behind it."""

    text: bytes
    operation: int = _NOTHING
    field: str | int = 0
    """The event's field; of a fragment, the number of its source."""

    function: Callable[[Any], bytes] | Mapping[Any, bytes] | None = None
    number: int = 0
    """Of a fragment, its place in its source, or -1; of a time, what is added; of a text, whether it may be unknown."""

    is_optional: bool = False
    """Whether the text is left out where there is no value."""


def writer(document: Document, event: type[HostEvent]) -> native.Writer:
    """What writes the lines of one kind's events."""
    fragments = list(document.fragments)
    sources = tuple((_key(document.keys[name]), _finder(document.scope[f"write_{name}"])) for name in fragments)
    return native.Writer(event, sources, tuple(map(tuple, steps_of(document))))


def steps_of(document: Document) -> list[Step]:
    """What a line is written by."""
    return list(_Steps(document).of_all())


def encode(events: list[HostEvent], writers: dict[type[HostEvent], native.Writer]) -> bytes:
    """NDJSON; `writers` has, or makes, the writer of each kind."""
    return native.encode(events, writers)


def _key(expression: str) -> str | tuple[str, ...]:
    match ast.parse(expression, mode="eval").body:
        case ast.Attribute(ast.Name("e"), name):
            return name
        case ast.Tuple(parts):
            return tuple(part.attr for part in parts if isinstance(part, ast.Attribute))
    raise TypeError(f"a source's key is a field or a tuple of fields, not {expression}")


def _finder(find: Callable[[Any], Any]) -> object:
    """The dictionary whose look-up `find` is, or else that function."""
    owner = getattr(find, "__self__", None)
    return owner if isinstance(owner, dict) else find


class _Steps:
    """Translates the expressions of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._scope = document.scope
        self._fragments = {
            variable: (number, at if len(variables) > 1 else -1)
            for number, variables in enumerate(document.fragments.values())
            for at, variable in enumerate(variables)
        }

    def of_all(self) -> Iterator[Step]:
        values = iter(self._document.values)
        template, at, text = self._document.template, 0, b""
        for place in _PLACE.finditer(template):
            text += template[at : place.start()]
            at = place.end()
            if place[1] == b"%":
                text += b"%"
                continue
            yield from self._value(text, ast.parse(next(values), mode="eval").body, place[0])
            text = b""
        yield Step(text + template[at:])

    def _value(self, text: bytes, node: ast.expr, form: bytes) -> Iterator[Step]:
        match node:
            case ast.IfExp(
                ast.NamedExpr(ast.Name("v"), value),
                ast.BinOp(ast.Constant(bytes(name)), ast.Add(), ast.Name("v")),
                ast.Constant(b""),
            ):
                yield from [Step(text)] * bool(text)
                yield from self._optional(name, value)
            case ast.Call(ast.Name("wrap"), [_]):
                yield from [Step(text)] * bool(text)
                yield from self._optional(b"", node)
            case _:
                yield self._single(node, form)._replace(text=text)

    def _optional(self, text: bytes, node: ast.expr) -> Iterator[Step]:
        match node:
            case ast.Call(ast.Name("wrap"), [members]):
                yield Step(text, _OPEN)
                for member in _summands(members):
                    yield from self._value(b"", member, b"%s")
                yield Step(b"", _CLOSE)
            case ast.IfExp(ast.Attribute(ast.Name("e"), name), value, ast.Constant(b"")):
                step = self._single(value, b"%s")
                if step.operation != _TIME or step.field != name:
                    step = self._single(node, b"%s")
                yield step._replace(text=text, is_optional=True)
            case _:
                yield self._single(node, b"%s")._replace(text=text, is_optional=True)

    def _single(self, node: ast.expr, form: bytes) -> Step:
        scope, offset = self._scope, self._scope["boot_offset"]
        match node:
            case ast.Name(variable) if variable in self._fragments:
                source, place = self._fragments[variable]
                return Step(b"", _FRAGMENT, source, None, place)
            case ast.Attribute(ast.Name("e"), field) if form != b"%s":
                return Step(b"", _DECIMAL if form == b"%d" else _HEXADECIMAL, field)
            case ast.Subscript(ast.Name(mapping), ast.Attribute(ast.Name("e"), field)):
                return Step(b"", _MAPPED, field, scope[mapping])
            case ast.Call(ast.Name(name), [ast.Attribute(ast.Name("e"), field)]) if name in _OF_ARGUMENTS:
                return Step(b"", _OF_ARGUMENTS[name], field, scope[name])
            case ast.Call(ast.Name("len"), [ast.Call(ast.Name("arguments"), [ast.Attribute(ast.Name("e"), field)])]):
                return Step(b"", _ARGUMENT_COUNT, field)
            case ast.Call(
                ast.Attribute(ast.Call(ast.Name("json_once"), [ast.Attribute(ast.Name("e"), field)]), "encode")
            ):
                return Step(b"", _TEXT, field, quote)
            case ast.Call(ast.Name("json_known_once"), [ast.Attribute(ast.Name("e"), field)]):
                return Step(b"", _TEXT, field, scope["json_known_once"], True)
            case ast.BinOp(
                ast.BinOp(ast.Attribute(ast.Name("e"), field), ast.Add(), ast.Name("boot_offset")),
                ast.FloorDiv(),
                ast.Constant(1_000_000),
            ):
                return Step(b"", _MILLISECONDS, field, partial(_milliseconds, offset), offset)
            case ast.Call(
                ast.Name("json_time"),
                [ast.BinOp(ast.Attribute(ast.Name("e"), field), ast.Add(), ast.Name("boot_offset"))],
            ):
                return Step(b"", _TIME, field, lambda time: scope["json_time"](time + offset), offset)
            case ast.IfExp(
                ast.Attribute(ast.Name("e"), field),
                ast.Call(ast.Name(name), [ast.Attribute(ast.Name("e"), same)]),
                ast.Constant(b""),
            ) if field == same:
                return Step(b"", _UNLESS_ZERO, field, scope[name])
        if any(isinstance(part, ast.Name) and part.id in self._fragments for part in ast.walk(node)):
            raise TypeError(f"fragments stand alone, not in {ast.unparse(node)}")
        code = f"lambda e: {form!r} % ({ast.unparse(node)},)"
        return Step(b"", _CALL, 0, eval(code, scope))  # noqa: S307 - from declarations alone


def _summands(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _summands(node.left)
        yield from _summands(node.right)
    else:
        yield node


def _milliseconds(offset: int, time_ns: int) -> bytes:
    return b"%d" % ((time_ns + offset) // 1_000_000)
