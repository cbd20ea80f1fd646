"""Numbers of a case as MRML table nodes. Unrounded; units stand at the columns; nan where a value is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from heartlens.case.case import Case
from heartlens.core.lesions import CORONARY, Artery
from heartlens.risk.categories import SCHEMES

TOTAL_ROW = "TOTAL"
HERE = "◀"
"""Marks the category of this case in the risk table."""


class NodeColumn(NamedTuple):
    """One column of a table: all text, all integers, or numbers with None for unknown."""

    name: str
    values: Sequence[Any]
    unit: str = ""


def lesion_columns(case: Case) -> list[NodeColumn]:
    """One row a lesion, highest Agatston first, those outside the coronaries last; as in lesions.csv, but RAS."""
    rows = case.report.lesions
    return [
        NodeColumn("id", [row.id for row in rows]),
        NodeColumn("artery", [row.artery.name for row in rows]),
        NodeColumn("agatston", [row.agatston for row in rows]),
        NodeColumn("volume", [row.volume_mm3 for row in rows], "mm3"),
        NodeColumn("mass", [_number(row.mass_mg) for row in rows], "mg"),
        NodeColumn("peak", [row.peak_hu for row in rows], "HU"),
        NodeColumn("mean", [row.mean_hu for row in rows], "HU"),
        NodeColumn("area", [row.area_mm2 for row in rows], "mm2"),
        NodeColumn("first slice", [row.slices[0] for row in rows]),
        NodeColumn("last slice", [row.slices[1] for row in rows]),
        NodeColumn("R", [-row.centroid_lps_mm[0] for row in rows], "mm"),
        NodeColumn("A", [-row.centroid_lps_mm[1] for row in rows], "mm"),
        NodeColumn("S", [row.centroid_lps_mm[2] for row in rows], "mm"),
        NodeColumn("probability", [_number(row.probability) for row in rows]),
        NodeColumn("source", [row.source.value for row in rows]),
        NodeColumn("why", [row.why for row in rows]),
    ]


def total_columns(case: Case) -> list[NodeColumn]:
    """One row an artery, empty ones included, then what is not assigned, the total, and what is not coronary."""
    now, automatic = case.report, case.auto_report
    rows = [
        (artery.name, now.arteries[artery], automatic.arteries[artery]) for artery in (*CORONARY, Artery.UNASSIGNED)
    ]
    rows.append((TOTAL_ROW, now.total, automatic.total))
    rows.append((Artery.OTHER.name, now.arteries[Artery.OTHER], automatic.arteries[Artery.OTHER]))

    def scores(values: Iterable[float]) -> list[float]:
        """None of them where no heart was found: nothing was looked at, and 0 would be an answer."""
        return [_number(value if case.assessment.has_total else None) for value in values]

    return [
        NodeColumn("artery", [name for name, _, _ in rows]),
        NodeColumn("lesions", [totals.lesions for _, totals, _ in rows]),
        NodeColumn("agatston", scores(totals.agatston for _, totals, _ in rows)),
        NodeColumn("volume", [totals.volume_mm3 for _, totals, _ in rows], "mm3"),
        NodeColumn("mass", [_number(totals.mass_mg) for _, totals, _ in rows], "mg"),
        NodeColumn("density", [_number(totals.density) for _, totals, _ in rows]),
        NodeColumn("automatic agatston", scores(before.agatston for _, _, before in rows)),
        NodeColumn("difference", scores(totals.agatston - before.agatston for _, totals, before in rows)),
    ]


def risk_columns(case: Case) -> list[NodeColumn]:
    """One row a category of the case's scheme; each that the case may have is marked, none where it is withheld."""
    rows = SCHEMES[case.risk.scheme].categories
    possible = case.assessment.categories
    return [
        NodeColumn("category", [row.label for row in rows]),
        NodeColumn("range", [row.shown for row in rows], "Agatston"),
        NodeColumn("this case", [HERE if row in possible else "" for row in rows]),
        NodeColumn("finding", [row.finding for row in rows]),
    ]


def slice_columns(case: Case) -> list[NodeColumn]:
    """One row a slice, foot to head; z is superior in RAS and LPS alike."""
    rows = case.report.slices
    return [
        NodeColumn("slice", [row.index for row in rows]),
        NodeColumn("z", [row.z_mm for row in rows], "mm"),
        NodeColumn("agatston", [row.agatston for row in rows]),
        NodeColumn("probability", [_number(row.probability) for row in rows]),
    ]


def fill_table(node: Any, columns: Sequence[NodeColumn]) -> None:
    """Replace the content of a vtkMRMLTableNode, with one event."""
    table = vtk.vtkTable()
    for column in columns:
        table.AddColumn(_array(column))
    was_modifying = node.StartModify()
    node.SetAndObserveTable(table)
    for column in columns:
        if column.unit and node.GetColumnUnitLabel(column.name) != column.unit:
            node.SetColumnUnitLabel(column.name, column.unit)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    node.EndModify(was_modifying)


def _array(column: NodeColumn) -> Any:
    values = column.values
    if any(isinstance(value, str) for value in values):
        array = vtk.vtkStringArray()
        for value in values:
            array.InsertNextValue(value)
    else:
        whole = bool(values) and all(isinstance(value, int) for value in values)
        array = numpy_to_vtk(np.array(values, dtype=np.int32 if whole else np.float64), deep=True)
    array.SetName(column.name)
    return array


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
