"""The learning curve: what a bundle gains from so many corrected cases, by the order in which they were corrected."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heartlens.core.atomic import atomic_file
from training.adaptation.judged import ScanError
from training.adaptation.selection import Order
from training.engine.json_records import write_json
from training.evaluation.results import Estimate, Failure
from training.evaluation.tables import number, shown, table
from training.metrics.paired import paired_mean

RESULT = "cell.json"


@dataclass(frozen=True)
class CurveCell:
    """One training, judged.

    Parameters
    ----------
    order
        In which cases were corrected.
    seed
        Of who teaches and who judges, of the order and of the training.
    size
        Patients who taught.
    gain
        By how much the wrong share of the score fell, mean of the patients who judge; None where nothing was learned.
    low, high
        Its interval over these patients.
    judged
        How many judged.
    why_not
        Why nothing was learned; empty where something was.
    """

    order: Order
    seed: int
    size: int
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    judged: int = 0
    why_not: str = ""

    @property
    def folder(self) -> str:
        """Of its work."""
        return f"seed-{self.seed}/{self.order}-{self.size}"


def keep_cell(cell: CurveCell, work: Path) -> None:
    """Keep what a cell came to: from then on it is finished.

    Parameters
    ----------
    cell
        Judged.
    work
        Folder of the curve.
    """
    write_json(work / cell.folder / RESULT, asdict(cell))


def kept_cell(cell: CurveCell, work: Path) -> CurveCell | None:
    """A finished cell; None where it is not.

    Parameters
    ----------
    cell
        Which.
    work
        Folder of the curve.
    """
    path = work / cell.folder / RESULT
    return CurveCell(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def kept_errors(path: Path, find: Callable[[], dict[int, ScanError | Failure]]) -> dict[int, ScanError | Failure]:
    """How far the bundle that all begin with is from the readers, found once for all cells of a seed.

    Parameters
    ----------
    path
        Keeps it.
    find
        Scores the scans of those who judge.
    """
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        return {int(n): Failure(**one) if "reason" in one else ScanError(**one) for n, one in document.items()}
    errors = find()
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps({n: asdict(one) for n, one in errors.items()}) + "\n", encoding="utf-8")
    return errors


def over_seeds(cells: Sequence[CurveCell]) -> Estimate:
    """Mean gain with Student's 95 % interval over seeds: another seed teaches and judges with other patients.

    Parameters
    ----------
    cells
        Of one order and size.
    """
    gains = [cell.gain for cell in cells if cell.gain is not None]
    return _estimate(gains)


def active_minus_random(cells: Sequence[CurveCell], size: int) -> tuple[Estimate, list[float]]:
    """What the active order gains more than the random one, in pairs: the same seed has the same judges.

    Parameters
    ----------
    cells
        Of both orders.
    size
        Which.

    Returns
    -------
    mean : Estimate
        With its interval over seeds.
    by_seed : list[float]
        Of the seeds that have both.
    """
    by_order: dict[str, Mapping[int, float]] = {
        order: {c.seed: c.gain for c in cells if c.order == order and c.size == size and c.gain is not None}
        for order in ("active", "random")
    }
    both = sorted(set(by_order["active"]) & set(by_order["random"]))
    differences = [by_order["active"][seed] - by_order["random"][seed] for seed in both]
    return _estimate(differences), differences


def _estimate(values: Sequence[float]) -> Estimate:
    found = paired_mean(values)
    mean, low, high = (None if value != value else value for value in (found.mean, found.low, found.high))
    return Estimate(mean, low, high)


def curve_table(cells: Sequence[CurveCell]) -> str:
    """Gain against the number of corrected cases, and the active order against the random one, as Markdown.

    Parameters
    ----------
    cells
        Finished ones.
    """
    rows, differences = [], []
    sizes = sorted({cell.size for cell in cells})
    for size in sizes:
        for order in sorted({cell.order for cell in cells if cell.size == size}, reverse=True):
            own = [cell for cell in cells if (cell.order, cell.size) == (order, size)]
            each = ", ".join(_words(cell) for cell in own)
            rows.append([str(size), order, shown(over_seeds(own), sign=True), each])
        mean, by_seed = active_minus_random(cells, size)
        if by_seed:
            each = ", ".join(number(value, sign=True) for value in by_seed)
            differences.append([str(size), shown(mean, sign=True), each])
    preface = (
        "Gain: by how much the wrong share of the score fell on patients whom nothing was learned from; 0 is no gain. "
        "Intervals of means are Student's over seeds, those of one seed over its patients."
    )
    parts = [
        preface,
        table(["corrected cases", "order", "gain, mean of seeds", "by seed"], rows),
    ]
    if differences:
        parts.append(table(["corrected cases", "active order minus random order", "by seed"], differences))
    return "\n\n".join(parts) + "\n"


def _words(cell: CurveCell) -> str:
    if cell.gain is None:
        return f"none ({cell.why_not})"
    return shown(Estimate(cell.gain, cell.low, cell.high), sign=True)


def to_document(cells: Sequence[CurveCell], head: Mapping[str, Any]) -> dict[str, Any]:
    """The curve as JSON.

    Parameters
    ----------
    cells
        Finished ones.
    head
        What they hang on.
    """
    groups = sorted({(cell.size, cell.order) for cell in cells})
    return {
        **head,
        "cells": [asdict(cell) for cell in cells],
        "curve": [
            {
                "size": size, "order": order,
                "gain": over_seeds([c for c in cells if (c.size, c.order) == (size, order)])._asdict(),
            }
            for size, order in groups
        ],
    }  # fmt: skip
