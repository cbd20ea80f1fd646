"""What came of the cells of a sweep: kept one by one, and ranked."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from heartlens.core.errors import InputRefused
from training.engine.json_records import write_json
from training.engine.run_log import read_log
from training.engine.sweeps.cells import Better

RUN, RECORD = "run", "cell.json"


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


def write_result(folder: Path, result: CellResult) -> None:
    """Keep the result of a cell: from then on it is finished.

    Parameters
    ----------
    folder
        Of the cell.
    result
        What came of it.
    """
    write_json(folder / RECORD, asdict(result))


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
