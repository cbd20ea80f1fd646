"""Which cells a sweep has, from a TOML file.

A cell is the base recipe with a few settings changed. Its folder is named by these settings alone, so that a grid that
grows, or a search that draws more, finds what is finished; what was drawn first does not change by drawing more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from heartlens.core.errors import InputRefused
from training.engine.config import from_dict, read_toml, toml_value

Better = Literal["larger", "smaller"]


@dataclass(frozen=True)
class RandomSearch:
    """Settings that are drawn, each for itself.

    Parameters
    ----------
    draws
        How many; each is combined with every cell of the grid.
    seed
        Of the draws.
    keys
        What is drawn.
    low, high
        Range of each key, both ends included.
    log
        Keys whose logarithm is drawn evenly.
    digits
        Significant digits that are kept, so that a cell can be typed again.
    """

    draws: int = 0
    seed: int = 0
    keys: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    log: tuple[str, ...] = ()
    digits: int = 4

    def __post_init__(self) -> None:
        if not len(self.keys) == len(self.low) == len(self.high):
            raise ValueError(
                f"random: keys, low and high must be as many, got {len(self.keys)}, {len(self.low)}, {len(self.high)}"
            )
        if self.draws < 0 or self.digits < 1:
            raise ValueError(f"random: draws must not be negative, digits 1 or more, got {self.draws}, {self.digits}")
        if bool(self.draws) != bool(self.keys):
            raise ValueError(f"random: draws and keys belong together, got {self.draws} draws of {len(self.keys)} keys")
        for key, low, high in zip(self.keys, self.low, self.high, strict=True):
            if not low <= high or (key in self.log and low <= 0):
                raise ValueError(f"random: {key} must have a range that ascends (above 0 where log), got {low}, {high}")
        if unknown := set(self.log) - set(self.keys):
            raise ValueError(f"random: log names {', '.join(sorted(unknown))}, which keys does not")

    def draw(self, number: int) -> dict[str, float]:
        """The settings of one draw: a function of seed, number and key, whatever else is drawn.

        Parameters
        ----------
        number
            From 0.

        Examples
        --------
        >>> one = RandomSearch(1, 0, ("loss.alpha",), (0.5,), (1.0,)).draw(0)
        >>> more = RandomSearch(9, 0, ("a", "loss.alpha"), (0.0, 0.5), (1.0, 1.0)).draw(0)
        >>> one["loss.alpha"] == more["loss.alpha"]
        True
        """
        drawn = {}
        for key, low, high in zip(self.keys, self.low, self.high, strict=True):
            stream = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")
            share = float(np.random.default_rng([self.seed, number, stream]).random())
            if key in self.log:
                value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
            else:
                value = low + share * (high - low)
            drawn[key] = min(max(float(f"{value:.{self.digits}g}"), low), high)
        return drawn


@dataclass(frozen=True)
class SweepRecipe:
    """What a sweep runs, and by which figure of validation it is judged.

    Parameters
    ----------
    command
        A training loop, such as "train_unet".
    recipe
        TOML file of the loop, beside the file of the sweep.
    changes
        Settings of all cells, ``key=value``.
    figure
        Of the validation in the run's log, such as "validation_dice".
    better
        Which of two values is the better one.
    keys, values
        The grid: each key with the values it takes, ``values[n]`` those of ``keys[n]``, as TOML; all are combined.
    random
        What is drawn.
    """

    command: str = "train_unet"
    recipe: Path = Path()
    changes: tuple[str, ...] = ()
    figure: str = "validation_dice"
    better: Better = "larger"
    keys: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    random: RandomSearch = field(default_factory=RandomSearch)

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.values) or not all(self.values):
            raise ValueError("grid: each key must have a list of one value or more")
        both = [*self.keys, *self.random.keys]
        twice = sorted({key for key in both if both.count(key) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: a setting must stand once, in the grid or among what is drawn")
        if not both:
            raise ValueError("a sweep needs settings that vary: [grid], [random.uniform] or [random.log_uniform]")

    @property
    def varied(self) -> tuple[str, ...]:
        """Keys in which cells differ: those of the grid, then those that are drawn."""
        return (*self.keys, *self.random.keys)

    def cells(self) -> tuple[Cell, ...]:
        """Every combination, draw by draw, so that a sweep that is cut short has whole grids."""
        grid = [dict(zip(self.keys, values, strict=True)) for values in itertools.product(*self.values)]
        draws: list[dict[str, float]] = [self.random.draw(n) for n in range(self.random.draws)] or [{}]
        typed = [{key: toml_value(value) for key, value in draw.items()} for draw in draws]
        found = [Cell({**one, **draw}) for draw in typed for one in grid]
        return tuple({cell.name: cell for cell in found}.values())


class Cell(NamedTuple):
    """The settings of one run that differ from those of others.

    Parameters
    ----------
    settings
        Values by key, as text.
    """

    settings: Mapping[str, str]

    @property
    def changes(self) -> tuple[str, ...]:
        """As they stand on a command line."""
        return tuple(f"{key}={value}" for key, value in self.settings.items())

    @property
    def name(self) -> str:
        """Of its folder: a checksum of its settings."""
        return hashlib.sha256(json.dumps(sorted(self.settings.items())).encode()).hexdigest()[:12]


def read_sweep(path: Path) -> SweepRecipe:
    """A sweep of a TOML file; its recipe is looked for beside it.

    Parameters
    ----------
    path
        The file: fields of `SweepRecipe`, a table ``grid`` of lists, and a table ``random`` with ``draws``, ``seed``
        and the tables ``uniform`` and ``log_uniform`` of ranges.

    Raises
    ------
    InputRefused
        ``input``
    """
    document = read_toml(path)
    grid = _flat(document.pop("grid", {}), path, "grid")
    for key, values in grid.items():
        if not values:
            raise InputRefused("input", f"{path}: grid: {key}: expected one value or more, found none")
    search = document.pop("random", {})
    if not isinstance(search, dict):
        raise InputRefused("input", f"{path}: random: expected a table, found {search!r}")
    even = _flat(search.pop("uniform", {}), path, "random.uniform")
    log = _flat(search.pop("log_uniform", {}), path, "random.log_uniform")
    for key, ends in (*even.items(), *log.items()):
        if len(ends) != 2:
            raise InputRefused("input", f"{path}: random: {key}: expected a range [low, high], found {ends}")
    if both := sorted(set(even) & set(log)):
        raise InputRefused("input", f"{path}: {', '.join(both)}: drawn evenly and by its logarithm; keep one")
    drawn = {**even, **log}
    low, high = ([ends[n] for ends in drawn.values()] for n in (0, 1))
    search |= {"keys": list(drawn), "low": low, "high": high, "log": list(log)}
    values = [[text_of(value) for value in values] for values in grid.values()]
    sweep = from_dict(SweepRecipe, {**document, "keys": list(grid), "values": values, "random": search}, str(path))
    recipe = path.parent / sweep.recipe
    if not recipe.is_file():
        raise InputRefused("input", f"{path}: expected in recipe a TOML file beside this one, found {sweep.recipe}")
    return replace(sweep, recipe=recipe)


def text_of(value: Any) -> str:
    """A value of a grid as it is typed on a command line."""
    return value if isinstance(value, str) else toml_value(value)


def _flat(table: Any, path: Path, where: str) -> dict[str, list[Any]]:
    """Lists by dotted keys: {"loss": {"alpha": [1]}} is {"loss.alpha": [1]}."""
    if not isinstance(table, dict):
        raise InputRefused("input", f"{path}: {where}: expected a table of lists, found {table!r}")
    flat: dict[str, list[Any]] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": values for name, values in _flat(value, path, f"{where}.{key}").items()}
        elif isinstance(value, list):
            flat[key] = value
        else:
            raise InputRefused("input", f"{path}: {where}.{key}: expected a list, found {value!r}")
    return flat
