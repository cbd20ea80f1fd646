"""Frozen dataclasses and named tuples as JSON and back, equal after the round trip; and JSON files, all or nothing."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from heartlens.core.atomic import atomic_file

T = TypeVar("T")


def write_json(path: Path, document: Any) -> None:
    """Write a document as indented JSON, all or nothing.

    Parameters
    ----------
    path
        Of the file, which is replaced.
    document
        Of plain values; NaN and infinity raise ValueError.
    """
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def to_plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers and None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: to_plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): to_plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(part) for part in value]
    return value


def from_plain(kind: type[T], value: Any) -> T:
    """What `to_plain` was given, by its type annotations.

    Raises
    ------
    KeyError
        A field is missing.
    TypeError
        A value of another shape than the annotation says.
    """
    return typing.cast("T", _built(kind, value))


def _built(kind: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _built(next(a for a in arguments if a is not type(None)), value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"expected a list, got {type(value).__name__}")
        return tuple(_built(arguments[0], part) for part in value)
    if origin is not None and issubclass(origin, Mapping):
        return {key: _built(arguments[1], part) for key, part in _mapping(value).items()}
    if is_dataclass(kind) or hasattr(kind, "_fields"):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _built(hint, _mapping(value)[name]) for name, hint in hints.items()})
    return float(value) if kind is float else value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value
