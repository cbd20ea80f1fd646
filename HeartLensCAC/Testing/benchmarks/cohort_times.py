"""What a cohort costs beside the scoring: a scan's bookkeeping, and plan, status, tables and page of 100,000 series."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from heartlens.pipeline import Request, score_series

SERIES = 100_000

LEFT_OUT = "Cohorts were left out: they need duckdb; pip install 'heartlens[cohort]'"

Row = tuple[str, float, float, str]


def can_run() -> bool:
    return importlib.util.find_spec("duckdb") is not None


def cohort_times(series: Path, runs: int) -> list[Row]:
    """(what, measured, budget, unit) of each figure.

    Parameters
    ----------
    series
        A scan as DICOM.
    runs
        How often the bookkeeping of a scan is timed.
    """
    with tempfile.TemporaryDirectory() as place:
        return [*overhead_times(series, Path(place) / "one", runs), *many_times(series, Path(place) / "many", SERIES)]


def overhead_times(series: Path, place: Path, runs: int) -> Iterator[Row]:
    """What a scan costs beside its scoring."""
    from heartlens.cohort.folder import CohortFolder
    from heartlens.cohort.settings import settings_of
    from heartlens.cohort.work import score_planned
    from heartlens.dicom.series import find_series

    files = sorted(series.iterdir())
    words = {"bundle": "none"}
    folder, (settings, _) = CohortFolder(place), settings_of(words)
    task = _task(0, str(series), [file.name for file in files], sum(file.stat().st_size for file in files))
    task["series"] = find_series(files)[0].series_uid
    folder.write_plan([task], {"options": words})
    result = score_series(files, Request(bundle="none"))
    with mock.patch("heartlens.pipeline.score_series", return_value=result):  # what is left is the bookkeeping
        spent = [
            _seconds(lambda n=n: score_planned(str(place), settings, words, {**task, "key": f"{n:032x}"}, keep=False))
            for n in range(5 * runs + 1)
        ]
    yield "cohort: a scan's bookkeeping beside its scoring", 1e3 * statistics.median(spent[1:]), 50.0, "ms"


def many_times(series: Path, place: Path, count: int) -> list[Row]:
    """Choosing, plan, status, tables and page of so many series, whose rows are all like that of one scan."""
    from heartlens.cohort.folder import CohortFolder, lines_of_row
    from heartlens.cohort.page.write import write_page
    from heartlens.cohort.planning.plan import plan_rows
    from heartlens.cohort.row import row_of_report
    from heartlens.cohort.settings import keep_settings, settings_of
    from heartlens.cohort.status import status_of
    from heartlens.cohort.tables.table import CohortTable

    folder, (settings, document) = CohortFolder(place), settings_of({})
    found = _found(series, count)
    chosen: list[dict[str, Any]] = []

    def choose_and_write() -> None:
        chosen[:] = plan_rows(found)
        folder.write_plan(chosen, {"options": {}})

    times = [("plan", 60.0, _seconds(choose_and_write))]
    assert all(row["status"] == "planned" for row in chosen)
    keep_settings(folder, settings, document)
    case = score_series(series, Request(bundle="none")).case
    row = row_of_report(json.loads(json.dumps(case.report_document())))
    lesions = row.pop("lesions_found")[:10]
    for task in chosen:
        mine = {"key": task["key"], "settings": settings, "given": {}, "seconds": 5.0, "peak_mb": 500.0}
        lines = lines_of_row({**row, **mine, "lesions_found": lesions})
        folder.row_path(task["key"], settings).write_bytes(lines)
    table = CohortTable(folder)
    for what, budget, work in (
        ("status", 60.0, lambda: status_of(folder)),
        ("tables", 60.0, lambda: table.write(pairs=False)),
        ("page", 10.0, lambda: write_page(folder, settings)),
    ):
        times.append((what, budget, _seconds(work)))
    return [(f"cohort: {what} of {count} series", value, budget, "s") for what, budget, value in times]


def _found(series: Path, count: int) -> list[Any]:
    """So many series of as many people, as headers would tell of them."""
    from heartlens.cohort.planning.find import Finder
    from heartlens.cohort.planning.sources import Place

    (one,) = Finder().find([Place(series)])
    assert one.ranked is not None
    found = []
    for n in range(count):
        mine = replace(one.ranked.series, study_uid=f"1.3.{n}", series_uid=f"1.2.{n}")
        images = tuple(hashlib.blake2b(f"{n}.{k}".encode(), digest_size=8).digest() for k in range(len(one.images)))
        ranked = replace(one.ranked, series=mine)
        found.append(replace(one, key=f"{n:032x}", ranked=ranked, images=images, patient=f"{n:016x}"))
    return found


def _task(n: int, folder: str, names: list[str], size: int) -> dict[str, Any]:
    uids = {"series": f"1.2.{n}", "study_uid": f"1.3.{n}", "series_uid": f"1.2.{n}"}
    person = dict.fromkeys(("age", "sex", "race"))
    return {
        "key": f"{n:032x}", "status": "planned", "folder": folder, "files": names, "bytes": size, "subject": str(n),
        "study_date": "2026-01-01", **uids, **person,
    }  # fmt: skip


def _seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
