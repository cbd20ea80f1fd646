"""What Slicer's releases offer, from the lists in slicer_api/, and stand-ins that obey them.

A call through a stand-in is bound to the parameter list of each release first: what one of them refuses is a
TypeError here, as it would be there. `scripts/slicer_api.py` wrote the lists from Slicer's sources.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "slicer_api"

SUPPORTED = ("5.12", "main")
"""In these a name must be there; in an older one the module only starts and says that it needs a newer Slicer."""

RELEASES = ("5.10", *SUPPORTED)


@functools.cache
def facts(release: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{release}.json").read_text())


@functools.cache
def signature(release: str, name: str) -> inspect.Signature | None:
    """Of a Python function of Slicer; None where the release has no such function."""
    fact = facts(release)["functions"].get(name)
    if fact is None:
        return None
    made = ast.parse(f"def function({fact['signature']}): pass")
    arguments = made.body[0].args  # type: ignore[attr-defined]
    arguments.defaults = [ast.Constant(None)] * len(arguments.defaults)  # names of Slicer's, which are not here
    namespace: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(made), name, "exec"), namespace)
    return inspect.signature(namespace["function"])


def bind(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raises TypeError as the release would that does not take this call."""
    for release in RELEASES:
        takes = signature(release, name)
        if takes is None:
            assert release not in SUPPORTED, f"Slicer {release} has no {name}"
            continue
        try:
            takes.bind(*arguments, **named)
        except TypeError as error:
            at = facts(release)["functions"][name]["at"]
            raise TypeError(f"{name} of Slicer {release} ({at}): {error}") from None


def conforming(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for a function of Slicer that takes what each release takes, and nothing else."""

    def stand_in(*arguments: Any, **named: Any) -> Any:
        bind(name, arguments, named)
        return call(*arguments, **named)

    return stand_in


def members(release: str, kind: str) -> set[str]:
    """What Python reaches of a class of Qt that is Slicer's or CTK's: properties, slots and Q_INVOKABLE methods."""
    words = (word.split(" ") for word in facts(release)["widgets"][kind])
    return {name for name, sort in words if sort != "(signal)"}


def signals(release: str, kind: str) -> set[str]:
    return {word.split(" ")[0] for word in facts(release)["widgets"][kind] if word.endswith("(signal)")}


def default(name: str) -> str:
    """What holds where nobody sets anything; it must be the same in every release."""
    values = {facts(release)["defaults"][name]["value"] for release in RELEASES}
    assert len(values) == 1, f"{name} differs between releases: {values}"
    return str(values.pop())


def flags(text: str, enum: str) -> int:
    """The number of "Dirs | Readable" or "ctkPathLineEdit::Dirs|..."."""
    values = facts("main")["enums"][enum]["values"]
    total = 0
    for word in text.split("|"):
        total |= values[word.strip().rpartition("::")[2]]
    return total
