"""The scans of a cohort for a reader: those that need one most first, by names that people recognize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.row import HELD, SCORED
from heartlens.cohort.settings import latest_settings
from heartlens.core.errors import InputRefused
from heartlens.risk.reading_need import Need, need_of


class CaseToRead(NamedTuple):
    """One scan.

    Parameters
    ----------
    folder
        Of its case.
    name
        Number of the person, examination and scan as the list of the user gives them; else the folder in which the
        scan lies, and its day. It may be a patient's name: it is shown to the reader and written nowhere.
    need
        Why it needs a reader, in words; "" where nothing speaks for it.
    """

    folder: Path
    name: str
    need: str


def cases_to_read(folder: CohortFolder, settings: str = "") -> list[CaseToRead]:
    """The scans with a result, those that need a reader most first; held ones, which allow no statement, last.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        How they were scored, by the beginning of the key; "" is the latest run.

    Raises
    ------
    InputRefused
        ``input``: nothing was scored, or no result was kept.
    """
    key_of_settings = latest_settings(folder, settings)
    found: list[tuple[tuple[bool, Need, float, str], CaseToRead]] = []
    for planned in folder.planned(("key", "subject", "exam", "scan", "study_date", "folder")):
        row = folder.row(planned["key"], key_of_settings)
        case = folder.result_path(planned["key"], key_of_settings) / "case"
        if row is None or row["status"] not in (SCORED, HELD) or not (case / "case.json").is_file():
            continue
        is_held = row["status"] == HELD
        need, span = (Need.ROUTINE, 0.0) if is_held else _need(row)
        words = "held: it allows no statement" if is_held else need.words
        found.append(((is_held, need, -span, planned["key"]), CaseToRead(case, _name(planned), words)))
    if not found:
        raise InputRefused(
            "input",
            f"{folder.path} has no result to read: expected some of heartlens cohort run with --keep all; run it first",
        )
    return [case for _, case in sorted(found)]


def _need(row: Mapping[str, Any]) -> tuple[Need, float]:
    """Why a scored scan needs a reader, and how far its score reaches, Agatston."""
    need = need_of({**row, "reasons": row["reasons"] or ()})
    return need, float(row["agatston_high"] - row["agatston_low"])


def _name(planned: Mapping[str, Any]) -> str:
    parts = [planned["subject"] or Path(planned["folder"]).name]
    parts += [f"{what} {planned[what]}" for what in ("exam", "scan") if planned[what]]
    if planned["study_date"]:
        parts.append(str(planned["study_date"]))
    return " · ".join(parts)
