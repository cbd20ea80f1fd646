"""Two scans of one person that follow each other in the cohort, and what has changed between them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from heartlens.case.comparison.opened import open_case
from heartlens.case.comparison.persons import check_same_person
from heartlens.case.comparison.progress import Progress, compare_scans
from heartlens.cohort.folder import CohortFolder
from heartlens.cohort.identity import without_identity
from heartlens.cohort.tables.columns import PAIR_COLUMNS
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused

LOG_OFFSET = 25.0
"""Added to a score before its logarithm, so that a score of 0 has one: the ln(CAC+25) change of MESA's analyses."""

DAYS_A_YEAR = 365.2425

COMPARED = frozenset(column.name for column in PAIR_COLUMNS)

PAIRS = """
SELECT * FROM (
    SELECT
        patient_key, subject,
        lag(key) OVER person AS prior_key, key AS current_key,
        lag(study_date) OVER person AS prior_date, study_date AS current_date,
        lag(agatston) OVER person AS prior_agatston, agatston AS current_agatston,
        lag(edits) OVER person AS prior_edits, edits AS current_edits
    FROM series
    WHERE status = 'scored' AND study_date IS NOT NULL AND coalesce(subject, patient_key) IS NOT NULL
    WINDOW person AS (PARTITION BY coalesce(subject, patient_key) ORDER BY study_date, key)
) WHERE prior_key IS NOT NULL AND prior_date < current_date
"""
"""Of each person the scored scans in the order of their days, each with the one before."""


def pair_rows(folder: CohortFolder, settings: str, con: Any) -> Iterator[dict[str, Any]]:
    """A row for each pair, by the columns of pairs.parquet; comparisons that were made are not made again.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        Key of version, bundle and options.
    con
        Database with the table `series`.

    Yields
    ------
    dict[str, Any]
        By name of the column.
    """
    found = con.execute(PAIRS)
    names = [column[0] for column in found.description]
    for values in found.fetchall():
        pair = dict(zip(names, values, strict=True))
        edits = f"{pair.pop('prior_edits')}-{pair.pop('current_edits')}"
        path = folder.pairs / f"{pair['prior_key']}-{pair['current_key']}-{settings}-{edits}.json"
        compared = _read(path)
        if compared is None:
            compared = _compared(folder, settings, pair)
            if "code" not in compared:  # a CT that has moved may come back
                with atomic_file(path) as sibling:
                    sibling.write_text(json.dumps(compared, allow_nan=False))
        days = (pair["current_date"] - pair["prior_date"]).days
        dates = {name: pair[name].isoformat() for name in ("prior_date", "current_date")}
        yield {**pair, **dates, "years": days / DAYS_A_YEAR, **compared}


def _read(path: Path) -> dict[str, Any] | None:
    """A comparison that was made; None where there is none, or it is damaged."""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and document.keys() <= COMPARED and "verdict" in document:
            return document
    return None


def _compared(folder: CohortFolder, settings: str, pair: dict[str, Any]) -> dict[str, Any]:
    places = [folder.result_path(pair[name], settings) for name in ("prior_key", "current_key")]
    try:
        prior, current = (open_case(place) for place in places)
        # The same ID under one key, or the number that the user gave: whose they are was said.
        notes = check_same_person(prior, current, asserted=True)
        dates: tuple[date, date] = (pair["prior_date"], pair["current_date"])
        return _words(compare_scans(prior, current, dates=dates, notes=notes), pair)
    except InputRefused as refusal:
        return {"code": refusal.code, "withheld": without_identity(refusal.text, places)}


def _words(progress: Progress, pair: dict[str, Any]) -> dict[str, Any]:
    if progress.withheld:
        return {"verdict": progress.verdict.value, "withheld": progress.withheld}
    low, high = progress.total.change
    root_low, root_high = progress.root_volume.change
    per_year, _ = progress.per_year
    now, before = (math.log(pair[name] + LOG_OFFSET) for name in ("current_agatston", "prior_agatston"))
    return {
        "change_low": low,
        "change_high": high,
        "per_year_low": None if per_year is None else per_year[0],
        "per_year_high": None if per_year is None else per_year[1],
        "root_volume_low": root_low,
        "root_volume_high": root_high,
        "log_change": now - before,
        "category_change": progress.category_change,
        "verdict": progress.verdict.value,
    }
