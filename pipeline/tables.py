# SPDX-License-Identifier: GPL-2.0-or-later
"""TOML into frozen structs, and one sentence for whatever does not fit.

The sentence names the file, the key, what was given and what is accepted. It
comes from the struct's own annotations, so that it cannot say anything else
than what is checked.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import inspect

_LARGEST = 1 << 20
"""Bytes that a configuration file may have."""

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""

_PLACE = re.compile(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", re.DOTALL)
"""How `tomllib` says where an error is."""

_TWICE = re.compile(r"Cannot (?:declare \((?P<keys>.*?),?\) twice|overwrite a value)")
"""How it says that a table or a key stands there already."""

Table = TypeVar("Table", bound=msgspec.Struct)


class ConfigError(Exception):
    """A configuration cannot be used: one sentence with file, key, what was given and what is accepted."""


def read(path: Path) -> dict[str, object]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is no TOML; names the line.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"{str(path)!r} holds a NUL character: no file has such a name") from None
    if len(raw) > _LARGEST:
        raise ConfigError(f"{path}: larger than a configuration may be, which is {_LARGEST} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} is not UTF-8, which TOML must be") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except ValueError as error:
        place = _PLACE.fullmatch(_TWICE.sub(_in_words, str(error)))
        if place is None:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
        what = f"{place['what']} (column {place['column']})"
        raise ConfigError(f"{path}: line {place['line']} is not valid TOML: {what}") from None


def _in_words(twice: re.Match[str]) -> str:
    keys = re.findall(r"""['"](.*?)['"]""", twice["keys"] or "")
    return f"the table [{'.'.join(keys)}] stands twice" if keys else "the key stands twice"


def fill(kind: type[Table], given: object, at: str = "") -> Table:
    """A `kind` made of the TOML table `given`, whose key is `at`; tables within it likewise.

    Raises:
        ConfigError: without the file's name, which the caller knows.
    """
    if not isinstance(given, dict):
        raise ConfigError(f"{at} must be a table, not {shown(given)}")
    prefix = f"{at}." * bool(at)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, object] = {}
    for key, value in given.items():
        if key not in fields:
            holder = f"[{at}]" if at else "the file"
            accepted = f"{holder} takes {', '.join(fields)}"
            raise ConfigError(f"{prefix}{key} is not a key{guess(key, fields)}; {accepted}")
        values[fields[key].name] = _value(fields[key].type, value, prefix + key)
    for key, field in fields.items():
        if field.required and key not in given:
            raise ConfigError(f"{prefix}{key} is missing; it must be {accepts(field.type)}")
    try:
        return kind(**values)
    except ValueError as error:  # of __post_init__, which begins with the key
        raise ConfigError(f"{prefix}{error}") from None


def _value(annotation: object, value: object, at: str) -> object:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return fill(annotation, value, at)
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise msgspec.ValidationError
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        raise ConfigError(f"{at} must be {accepts(annotation)}, not {shown(value)}") from None


def accepts(annotation: object) -> str:
    """What a field of this type takes, for people; a ``Meta(description=...)`` says it in its own words."""
    return _described(inspect.type_info(annotation))


def _described(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(words)}):
            return words
        case inspect.Metadata(type=within):
            return _described(within)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType(ge=low, le=high):
            return "an integer" + _range(low, high)
        case inspect.FloatType(ge=low, le=high):
            return "a number" + _range(low, high)
        case inspect.StrType(min_length=least):
            return "text" + " that is not empty" * bool(least)
        case inspect.LiteralType(values=values):
            return either(values)
        case inspect.VarTupleType(item_type=item, max_length=most):
            return f"a list of {_described(item)}" + (f", at most {most} of them" if most is not None else "")
        case _:
            return "a value of another type"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}".replace(",", "_")
    return f" of at least {low:,}".replace(",", "_") if low is not None else ""


def either(values: Iterable[object]) -> str:
    """``"a", "b" or "c"``."""
    *most, last = [shown(value) for value in values]
    return f"{', '.join(most)} or {last}" if most else last


def guess(word: str, known: Iterable[str]) -> str:
    """A question to append where one of `known` is probably what was meant by `word`."""
    import difflib  # 5 ms that only mistakes cost

    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def shown(value: object) -> str:
    """A value about as TOML writes it, cut where it is long."""
    if isinstance(value, Mapping):
        return "a table"
    as_json = isinstance(value, bool | str | list | tuple)
    text = msgspec.json.encode(value).decode() if as_json else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
