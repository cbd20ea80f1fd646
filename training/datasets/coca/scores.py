"""scores.xlsx of the non-gated COCA scans: Agatston per artery, read by people, without outlines."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery

COLUMNS: Mapping[str, Artery | None] = {
    "lca": Artery.LM,  # the sheet's LCA is the left main
    "lad": Artery.LAD,
    "lcx": Artery.LCX,
    "rca": Artery.RCA,
    "total": None,
}

SUM_TOLERANCE = 1.0
"""Agatston: the sheet's totals are rounded."""


@dataclass(frozen=True)
class NongatedScore:
    """One row.

    Parameters
    ----------
    patient
        Number of the patient's folder.
    arteries
        Agatston of LM, LAD, LCX and RCA.
    total
        As the sheet has it.
    """

    patient: int
    arteries: Mapping[Artery, float]
    total: float


def read_scores(path: Path) -> tuple[dict[int, NongatedScore], tuple[str, ...]]:
    """Read the sheet; header cells may have blanks around them and any case, file names end in "A" ("12A").

    Returns
    -------
    scores : dict[int, NongatedScore]
        By patient number; patients without a row are not in it.
    notes : tuple[str, ...]
        Rows that were left out, and totals that are not the sum of their arteries.

    Raises
    ------
    InputRefused
        "input" or "unreadable"; "labels" when a column is missing
    """
    rows = _rows(path)
    header = [str(cell).strip().lower() if cell is not None else "" for cell in (rows[0] if rows else ())]
    missing = [name for name in ("filename", *COLUMNS) if name not in header]
    if missing:
        raise InputRefused(
            "labels", f"{path}: expected the columns filename, {', '.join(COLUMNS)}; {missing} not found"
        )
    scores: dict[int, NongatedScore] = {}
    notes: list[str] = []
    for n, row in enumerate(rows[1:], start=2):
        cells = dict(zip(header, row, strict=False))
        if all(cell is None for cell in cells.values()):
            continue
        patient = _patient(cells["filename"])
        values = {name: _score(cells.get(name)) for name in COLUMNS}
        bad = [name for name, value in values.items() if value is None]
        if patient is None or bad or patient in scores:
            why = "no patient number" if patient is None else f"no score in {', '.join(bad)}" if bad else "a second row"
            notes.append(f"{path.name} row {n} left out: {why}")
            continue
        arteries = {artery: values[name] or 0.0 for name, artery in COLUMNS.items() if artery is not None}
        total = values["total"] or 0.0
        if abs(total - sum(arteries.values())) > SUM_TOLERANCE:
            notes.append(f"{path.name} row {n}: total is {total:g}, its arteries sum to {sum(arteries.values()):g}")
        scores[patient] = NongatedScore(patient, arteries, total)
    return scores, tuple(notes)


def _rows(path: Path) -> list[tuple[Any, ...]]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ModuleNotFoundError:
        raise InputRefused(
            "input", f"{path}: reading it needs openpyxl: pip install -r training/requirements.txt"
        ) from None
    if not Path(path).is_file():
        raise InputRefused("input", f"no such file: {path}")
    try:
        book = load_workbook(path, data_only=True)  # not read_only: some writers store a wrong sheet size
        return [tuple(row) for row in book.worksheets[0].iter_rows(values_only=True)]
    except (InvalidFileException, zipfile.BadZipFile, ParseError, OSError, KeyError, ValueError, IndexError) as error:
        reason = str(error).strip() or type(error).__name__
        raise InputRefused(
            "unreadable", f"{path}: expected an Excel sheet, found {reason}; download it again"
        ) from None


def _patient(cell: Any) -> int | None:
    """Number of a file name such as "12A"."""
    text = str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()
    match = re.fullmatch(r"(\d+)\s*[aA]?", text)
    return int(match[1]) if match else None


def _score(cell: Any) -> float | None:
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None
