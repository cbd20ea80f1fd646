"""A run's settings: a frozen dataclass, filled from a TOML recipe and then from ``key=value`` on the command line.

A recipe is a dataclass whose fields all have defaults; a field may be such a dataclass again (a TOML table,
``table.key=value``). What cannot change the weights (where to write, how often to log) is marked `runtime_only` and may
differ between a run and its resumption. A setting of a later version is marked `since_version`.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from heartlens.core.atomic import atomic_file
from heartlens.core.disk.reading import require_readable
from heartlens.core.errors import InputRefused

if sys.version_info >= (3, 11):
    import tomllib
else:  # the standard library reads TOML from 3.11 on
    import tomli as tomllib

Recipe = TypeVar("Recipe")

NONE = "none"
"""How a recipe writes None, which TOML cannot."""


def runtime_only(default: Any) -> Any:
    """A field that cannot change the weights: left out of `fingerprint`."""
    return dataclasses.field(default=default, metadata={"free": True})


def since_version(default: Any) -> Any:
    """A field that came later than runs which must go on: at its default it is left out of `fingerprint`."""
    return dataclasses.field(default=default, metadata={"added": True})


def load_recipe(kind: type[Recipe], path: Path | str | None = None, changes: Sequence[str] = ()) -> Recipe:
    """The settings of one run.

    Parameters
    ----------
    kind
        dataclass whose defaults hold where neither the file nor `changes` says anything
    path
        TOML file; None for the defaults alone
    changes
        ``key=value`` or ``table.key=value``; values as in TOML, quotes of plain words may be left out

    Raises
    ------
    InputRefused
        ``input``: no such file, no TOML, an unknown key (the nearest one is named), a value of the wrong type
    """
    document = {} if path is None else read_toml(Path(path))
    for change in changes:
        _put(document, change)
    return _fill(kind, document, f"{path}" if path else "command line", "")


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputRefused
        ``input``: no such file, or no TOML
    """
    require_readable(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputRefused("input", f"{path}: expected a TOML recipe, found: {error}; correct the line") from None


def as_dict(recipe: Any) -> dict[str, Any]:
    """Plain nested dict of a recipe: TOML's and JSON's types, tuples as lists, None as "none"."""
    return {f.name: _plain(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}


def from_dict(kind: type[Recipe], document: dict[str, Any], where: str) -> Recipe:
    """The recipe that `as_dict` told; `where` names its source in refusals."""
    return _fill(kind, document, where, "")


def write_recipe(recipe: Any, path: Path) -> None:
    """Write every setting, defaults included, so that `load_recipe` gives an equal recipe."""
    with atomic_file(path) as sibling:
        sibling.write_text(_toml(as_dict(recipe)), encoding="utf-8")


def fingerprint(recipe: Any) -> dict[str, Any]:
    """Everything in a recipe that can change the weights, with a checksum.

    Returns
    -------
    dict[str, Any]
        {"sha256": hex digest, "recipe": nested dict}
    """
    recipe_dict = _binding(recipe)
    return {
        "sha256": hashlib.sha256(json.dumps(recipe_dict, sort_keys=True).encode()).hexdigest(),
        "recipe": recipe_dict,
    }


def differences(one: dict[str, Any], other: dict[str, Any], table: str = "") -> list[str]:
    """``key: value of one, value of other`` for every setting in which two fingerprints' recipes differ."""
    changes = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key, "absent"), other.get(key, "absent")
        if isinstance(a, dict) and isinstance(b, dict):
            changes += differences(a, b, f"{table}{key}.")
        elif a != b:
            changes.append(f"{table}{key}: {a}, {b}")
    return changes


def _put(document: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise InputRefused("input", f"command line: expected key=value, found {change!r}")
    *tables, last = key.strip().split(".")
    for table in tables:
        document = document.setdefault(table, {})
        if not isinstance(document, dict):
            raise InputRefused("input", f"command line: {change!r}: {table} is a value, not a table")
    try:
        document[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        document[last] = text.strip()


def _fill(kind: type[Recipe], document: dict[str, Any], where: str, table: str) -> Recipe:
    hints = typing.get_type_hints(kind)
    names = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
            raise InputRefused("input", f"{where}: unknown key {table}{key}; did you mean {table}{near}?")
        values[key] = _checked(value, hints[key], where, f"{table}{key}")
    try:
        return kind(**values)
    except ValueError as error:  # the recipe's own __post_init__
        raise InputRefused("input", f"{where}: {error}") from None


def _checked(value: Any, hint: Any, where: str, key: str) -> Any:
    """The value in the field's type, or a refusal. An integer may stand for a float; nothing else is converted."""
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return _fill(typing.cast(type, hint), value, where, f"{key}.")
        raise _wrong(value, "a table", where, key)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if types.NoneType in inner and value == NONE:
            return None
        refusal: InputRefused | None = None
        for option in inner:
            if option is not types.NoneType:
                try:
                    return _checked(value, option, where, key)
                except InputRefused as error:
                    refusal = error
        assert refusal is not None
        raise refusal
    if origin is typing.Literal:
        if value in inner and type(value) in {type(choice) for choice in inner}:
            return value
        raise _wrong(value, f"one of {', '.join(map(str, inner))}", where, key)
    if origin is tuple:
        if not isinstance(value, list):
            raise _wrong(value, "a list", where, key)
        kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise _wrong(value, f"a list of {len(kinds)}", where, key)
        return tuple(_checked(v, k, where, f"{key}[{n}]") for n, (v, k) in enumerate(zip(value, kinds, strict=True)))
    if hint is float and type(value) is int:
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a name like 2026 typed without quotes on the command line
    if type(value) is not hint:
        raise _wrong(value, hint.__name__, where, key)
    return value


def _wrong(value: Any, expected: str, where: str, key: str) -> InputRefused:
    return InputRefused("input", f"{where}: {key}: expected {expected}, found {value!r}")


def _plain(value: Any) -> Any:
    if value is None:
        return NONE
    if dataclasses.is_dataclass(value):
        return as_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _binding(recipe: Any) -> dict[str, Any]:
    bound: dict[str, Any] = {}
    for f in dataclasses.fields(recipe):
        value = getattr(recipe, f.name)
        is_as_before = f.metadata.get("added") and value == f.default
        if not f.metadata.get("free") and not is_as_before:
            bound[f.name] = _binding(value) if dataclasses.is_dataclass(value) else _plain(value)
    return bound


def _toml(table_dict: dict[str, Any], table: str = "") -> str:
    lines = [f"{key} = {toml_value(value)}" for key, value in table_dict.items() if not isinstance(value, dict)]
    for key, value in table_dict.items():
        if isinstance(value, dict):
            lines += ["", f"[{table}{key}]", _toml(value, f"{table}{key}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it; the same text is taken on a command line."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    # JSON's strings, integers, floats and booleans are TOML's; json escapes what TOML wants escaped.
    return json.dumps(value) if not isinstance(value, float) else repr(value)
