"""The tables of a cohort: Parquet, CSV and one DuckDB file, from the rows as they are and as readers have left them."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from heartlens.case.lock import CaseLock, lock_case
from heartlens.case.seal import KEY_VARIABLE, SealState
from heartlens.cohort.folder import SCRATCH, CohortFolder
from heartlens.cohort.planning.plan import PLANNED
from heartlens.cohort.readers import current_row, has_readers_work
from heartlens.cohort.settings import latest_settings
from heartlens.cohort.tables.columns import COHORT_LESION_COLUMNS, FAILURE_COLUMNS, PAIR_COLUMNS, SERIES_COLUMNS
from heartlens.cohort.tables.pairs import pair_rows
from heartlens.cohort.tables.parquet import connect, export_table, line_of, load_lines, make_table, noticing_a_full_disk
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

    Attributes
    ----------
    seals
        Of how many cases that readers worked on the signature is worth what; counted by `rows`.
    damaged
        Rows that cannot be read and so wait; counted by `rows`.
    """

    def __init__(self, folder: CohortFolder, settings: str = "") -> None:
        self.folder = folder
        self.settings = latest_settings(folder, settings)
        self.seals: Counter[SealState] = Counter()
        self.damaged = 0

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
        self.seals, self.damaged = Counter(), 0
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
            self.damaged += row is None
            return row, lesions
        row, seal = current_row(row, result)
        self.seals[seal] += 1
        of_series = {"key": key, "settings": self.settings}
        return row, "".join(line_of({**of_series, **one}) for one in row.pop("lesions_found")).encode()

    def notes(self) -> list[str]:
        """What a person should know of the rows that were made last, a sentence each."""
        altered, unknown = self.seals[SealState.ALTERED], self.seals[SealState.UNVERIFIED]
        notes = []
        if altered:
            notes.append(
                f"{altered} signed cases were altered since: no signer is in their rows; heartlens verify says more"
            )
        if unknown:
            notes.append(
                f"{unknown} signatures cannot be verified, and no signer is in their rows: set {KEY_VARIABLE} as it "
                "was set when they were given"
            )
        if self.damaged:
            notes.append(f"{self.damaged} rows are damaged and wait; heartlens cohort run makes them again")
        return notes

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
        counts: Counter[str] = Counter()
        with noticing_a_full_disk(place), _scratch(place) as scratch:
            con = connect(scratch / DATABASE)
            try:
                self._fill(con, scratch, counts, pairs)
                with ExitStack() as files:
                    # All are on the disk before one has its name: then only renames remain, for which there is room.
                    for name in ("series", "lesions", "pairs"):
                        export_table(con, name, files.enter_context(atomic_file(place / f"{name}.parquet")))
                    _write_failures(con, files.enter_context(atomic_file(place / "failures.csv")))
                    con.execute("CHECKPOINT")
                    con.close()
                    sync_file(scratch / DATABASE)
                replace_file(scratch / DATABASE, place / DATABASE)
            finally:
                con.close()
        return counts

    def _fill(self, con: Any, scratch: Path, counts: Counter[str], pairs: bool) -> None:
        """Make every table in the database."""
        lesions = scratch / "lesions.jsonl"
        make_table(con, "series", SERIES_COLUMNS, self._split(lesions, counts), scratch)
        load_lines(con, "lesions", COHORT_LESION_COLUMNS, lesions)
        compared = pair_rows(self.folder, self.settings, con) if pairs and self.settings else ()
        make_table(con, "pairs", PAIR_COLUMNS, compared, scratch)
        names = ", ".join(column.name for column in FAILURE_COLUMNS)
        failed = ", ".join(f"'{status}'" for status in WITHOUT_RESULT)
        con.execute(f"CREATE TABLE failures AS SELECT {names} FROM series WHERE status IN ({failed})")
        make_views(con)

    def _split(self, lesions: Path, counts: Counter[str]) -> Iterator[dict[str, Any]]:
        """The rows; their lesions go into a file of their own on the way, or both would have to be in memory."""
        with lesions.open("wb") as lines:
            for row, mine in self.rows():
                counts[row["status"]] += 1
                lines.write(mine)
                yield row


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    """A folder to make tables in, locked meanwhile; what a killed process leaves, the next run clears away."""
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=place))
    lock = lock_case(scratch)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(lock, CaseLock):
            lock.release()


def _write_failures(con: Any, path: Path) -> None:
    """As CSV, for a spreadsheet, in which a text has to stay a text: subjects come from anybody's list."""
    names = [column.name for column in FAILURE_COLUMNS]
    found = con.execute(f"SELECT {', '.join(names)} FROM failures")
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(names)
        while some := found.fetchmany(4096):
            rows.writerows([cell(value) for value in row] for row in some)
