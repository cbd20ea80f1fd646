"""The tables of a cohort: Parquet, CSV and one DuckDB file, from the rows as they are and as readers have left them."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heartlens.cohort.folder import CohortFolder, has_readers_work, latest_settings
from heartlens.cohort.planning.plan import PLANNED
from heartlens.cohort.row import current_row
from heartlens.cohort.tables.columns import COHORT_LESION_COLUMNS, FAILURE_COLUMNS, PAIR_COLUMNS, SERIES_COLUMNS
from heartlens.cohort.tables.pairs import pair_rows
from heartlens.cohort.tables.parquet import connect, line_of, load_lines, make_table, write_table
from heartlens.cohort.tables.views import make_views
from heartlens.core.atomic import atomic_file
from heartlens.core.disk.renaming import replace_file, sync_file
from heartlens.report.csv_cells import cell

WAITING = "waiting"

FROM_PLAN = (
    "key", "patient_key", "subject", "exam", "scan", "study_uid", "series_uid", "study_date", "status", "code", "text",
    "duplicate_of",
)  # fmt: skip

DATABASE = "cohort.duckdb"

WITHOUT_RESULT = ("refused", "failed", "held", "duplicate")


class CohortTable:
    """Rows of a cohort, and the tables made of them.

    Parameters
    ----------
    folder
        Of the cohort.
    settings
        Key of version, bundle and options, or its beginning; "" for those of the last run.
    """

    def __init__(self, folder: CohortFolder, settings: str = "") -> None:
        self.folder = folder
        self.settings = latest_settings(folder, settings)

    def rows(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """The series of the plan, in its order.

        Yields
        ------
        row : dict[str, Any]
            By name of the column.
        lesions : bytes
            As lines of JSON.
        """
        done = self.folder.keys_with_rows(self.settings) if self.settings else set()
        for planned in self.folder.planned(FROM_PLAN):
            row, lesions = {**planned, "settings": self.settings or None}, b""
            day = row["study_date"]
            row["study_date"] = None if day is None else day.isoformat()
            if row["status"] == PLANNED:
                result, lesions = self._result(row["key"]) if row["key"] in done else (None, b"")
                # What the plan knows of the person's place in the study is newer than the row.
                row = {**(result or {}), **row, "status": WAITING if result is None else result["status"]}
                row |= {name: None if result is None else result[name] for name in ("code", "text")}
            yield row, lesions

    def _result(self, key: str) -> tuple[dict[str, Any] | None, bytes]:
        row, lesions = self.folder.row_with_lesions(key, self.settings)
        result = self.folder.result_path(key, self.settings)
        if row is None or not has_readers_work(result):
            return row, lesions
        row = current_row(row, result)
        of_series = {"key": key, "settings": self.settings}
        return row, "".join(line_of({**of_series, **one}) for one in row.pop("lesions_found")).encode()

    def write(self, *, pairs: bool = True) -> Counter[str]:
        """Write every table into the folder of the cohort; returns how many series there are of each status.

        Parameters
        ----------
        pairs
            Whether scans of one person are compared, which opens both.

        Raises
        ------
        InputRefused
            ``output``: the disk does not take them; each table is whole, old or new.
        """
        place = self.folder.path
        scratch = Path(tempfile.mkdtemp(prefix=".tables-", dir=place))
        database = scratch / DATABASE
        counts: Counter[str] = Counter()
        con = connect(database)
        try:
            lesions = scratch / "lesions.jsonl"
            make_table(con, "series", SERIES_COLUMNS, self._split(lesions, counts), scratch)
            load_lines(con, "lesions", COHORT_LESION_COLUMNS, lesions)
            compared = pair_rows(self.folder, self.settings, con) if pairs and self.settings else ()
            make_table(con, "pairs", PAIR_COLUMNS, compared, scratch)
            names = ", ".join(column.name for column in FAILURE_COLUMNS)
            failed = ", ".join(f"'{status}'" for status in WITHOUT_RESULT)
            con.execute(f"CREATE TABLE failures AS SELECT {names} FROM series WHERE status IN ({failed})")
            make_views(con)
            for name in ("series", "lesions", "pairs"):
                write_table(con, name, place / f"{name}.parquet")
            _write_failures(con, place / "failures.csv")
            con.close()
            sync_file(database)
            replace_file(database, place / DATABASE)
        finally:
            con.close()
            shutil.rmtree(scratch, ignore_errors=True)
        return counts

    def _split(self, lesions: Path, counts: Counter[str]) -> Iterator[dict[str, Any]]:
        """The rows; their lesions go into a file of their own on the way, or both would have to be in memory."""
        with lesions.open("wb") as lines:
            for row, mine in self.rows():
                counts[row["status"]] += 1
                lines.write(mine)
                yield row


def _write_failures(con: Any, path: Path) -> None:
    """As CSV, for a spreadsheet, in which a text has to stay a text: subjects come from anybody's list."""
    names = [column.name for column in FAILURE_COLUMNS]
    found = con.execute(f"SELECT {', '.join(names)} FROM failures")
    with atomic_file(path) as sibling, sibling.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        while some := found.fetchmany(4096):
            rows.writerows([cell(value) for value in row] for row in some)


def leftover_scratch(folder: CohortFolder) -> None:
    """Clear away what a killed `table` left; nobody else may be making one."""
    for path in folder.path.glob(".tables-*"):
        if path.is_dir() and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
