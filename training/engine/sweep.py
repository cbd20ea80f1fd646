"""A sweep: one command with many settings, from a TOML file; which cells there are, and what each came to.

A cell is the base recipe with a few settings changed. Its folder is named by these settings alone, so that a grid that
grows, or a search that draws more, finds what is finished; what was drawn first does not change by drawing more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from training.engine.config import from_dict, read_toml, toml_value
from training.engine.run_log import read_log

RUN, RECORD = "run", "cell.json"

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


@dataclass(frozen=True)
class CellResult:
    """What came of a cell that is over.

    Parameters
    ----------
    settings
        See `Cell`.
    value
        The figure at its best validation; None where the run died or never had a finite one.
    step
        Of that validation.
    figures
        All figures of that validation.
    died
        Why the run ended by itself; empty where it is complete.
    """

    settings: Mapping[str, str]
    value: float | None
    step: int | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)
    died: str = ""


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


def best_validation(run: Path, figure: str, better: Better) -> tuple[int, dict[str, float | None]]:
    """Step and figures of the validation where a figure is best; of equal ones the first.

    Parameters
    ----------
    run
        Folder of a run.
    figure
        Name in its log.
    better
        "larger" or "smaller".

    Raises
    ------
    InputRefused
        ``input``: no line of the log has a finite figure of this name
    """
    log = read_log(run)
    known = {step: value for step, line in log.items() if (value := line.get(figure)) is not None}
    if not known:
        names = sorted({name for line in log.values() for name in line})
        raise InputRefused(
            "input", f"the log of {run} has no finite {figure}; expected one of {', '.join(names) or 'nothing'}"
        )
    sign = 1 if better == "larger" else -1
    step = max(sorted(known), key=lambda n: sign * known[n])
    return step, log[step]


POLL_SECONDS = 0.5


class Ending(NamedTuple):
    """How the process of a cell ended.

    Parameters
    ----------
    code
        Its exit code.
    said
        Last line on its stderr.
    """

    code: int
    said: str


def run_process(words: Sequence[str], log: Path, stop: Path) -> Ending:
    """Run a command of training in a process of its own, and keep what it says.

    Parameters
    ----------
    words
        Module, then its arguments.
    log
        Takes its output, after that of earlier starts.
    stop
        Where this file is, the process is asked to save and stop: what also reaches workers on other computers.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        begin = file.tell()
        file.write(f"$ python -m {' '.join(words)}\n")
        file.flush()
        child = subprocess.Popen(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            code = _wait(child, stop)
        except BaseException:  # asked to stop: the run saves, and is waited for
            child.terminate()
            child.wait()
            raise
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().split("\n") if line.strip()]
    return Ending(code, lines[-1] if lines else "it said nothing")


def _wait(child: subprocess.Popen[bytes], stop: Path) -> int:
    while True:
        try:
            return child.wait(timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if stop.exists():
                child.terminate()
                return child.wait()


def write_result(folder: Path, result: CellResult) -> None:
    """Keep the result of a cell: from then on it is finished.

    Parameters
    ----------
    folder
        Of the cell.
    result
        What came of it.
    """
    with atomic_file(folder / RECORD) as sibling:
        sibling.write_text(json.dumps(asdict(result), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_result(folder: Path) -> CellResult | None:
    """The result of a cell; None where it is not finished.

    Parameters
    ----------
    folder
        Of the cell.
    """
    path = folder / RECORD
    return CellResult(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


SEED = "seed"
"""The setting in which repetitions of one cell differ."""


class Row(NamedTuple):
    """Cells that differ in their seed alone.

    Parameters
    ----------
    settings
        What they have in common.
    values
        Of each, in the order of the seeds; None where one died.
    mean
        Of those that have a value; None where none has.
    """

    settings: Mapping[str, str]
    values: tuple[float | None, ...]
    mean: float | None


def rank_cells(results: Sequence[CellResult], better: Better) -> list[Row]:
    """Rows of the table, the best first; those of which a seed died come last.

    Parameters
    ----------
    results
        Of finished cells.
    better
        "larger" or "smaller".
    """
    rows: dict[tuple[tuple[str, str], ...], list[CellResult]] = {}
    for one in results:
        rows.setdefault(tuple((k, v) for k, v in one.settings.items() if k != SEED), []).append(one)
    found = []
    for settings, group in rows.items():
        values = tuple(one.value for one in group)
        known = [value for value in values if value is not None]
        found.append(Row(dict(settings), values, float(np.mean(known)) if known else None))
    sign = -1 if better == "larger" else 1

    def place(row: Row) -> tuple[int, float]:
        died = sum(value is None for value in row.values)
        return died, math.inf if row.mean is None else sign * row.mean

    return sorted(found, key=place)
