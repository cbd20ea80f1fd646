"""The folder of a cohort: what is planned, what is done, who is at work. There is no other state.

::

    cohort.json              options; written by `plan`
    plan.parquet             a row a series
    settings/SETTINGS.json   what was scored with which version, bundle and options
    rows/KEY-SETTINGS.jsonl  a result or a failure each, by rename: the row, then a line for each lesion
    results/KEY/SETTINGS/    the result folder of `heartlens score`
    work/KEY-SETTINGS/       locked while a scan is in work; counts how often it was begun
    pairs/                   comparisons that were made
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heartlens import __version__
from heartlens.case.folder import read_json, write_json
from heartlens.case.lock import CaseLock, Holder, lock_case
from heartlens.cohort.tables.columns import PLAN_COLUMNS
from heartlens.cohort.tables.parquet import connect, line_of, make_table, read_table, write_table
from heartlens.core.atomic import atomic_file, remove_unfinished_files
from heartlens.core.errors import InputRefused

SCHEMA = "heartlens.cohort/1"

MOST_ATTEMPTS = 3
"""So often a scan may end its process; then it is recorded as a crash and the rest goes on."""

PRIVATE = 0o700


class CohortFolder:
    """Names and files of a cohort.

    Parameters
    ----------
    path
        Of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.plan_path = self.path / "plan.parquet"
        self.rows = self.path / "rows"
        self.results = self.path / "results"
        self.work = self.path / "work"
        self.pairs = self.path / "pairs"

    @classmethod
    def open(cls, path: Path) -> CohortFolder:
        """A cohort that was planned.

        Raises
        ------
        InputRefused
            ``input``: it is none.
        """
        folder = cls(path)
        folder.document  # noqa: B018, it is read to be refused
        return folder

    @property
    def document(self) -> dict[str, Any]:
        """What cohort.json holds.

        Raises
        ------
        InputRefused
            ``input``: there is none, or it is damaged.
        """
        try:
            document = read_json(self.path / "cohort.json")
        except (OSError, ValueError):
            document = {}
        if document.get("schema") != SCHEMA:
            raise InputRefused(
                "input", f"{self.path}: expected a planned cohort, found no cohort.json; heartlens cohort plan makes it"
            )
        return document

    def write_plan(self, rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> None:
        """Write or replace the plan; results stay.

        Raises
        ------
        InputRefused
            ``output``: the disk does not take it.
        """
        try:
            self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            for place in (self.rows, self.results, self.work, self.pairs, self.path / "settings"):
                place.mkdir(exist_ok=True)
        except OSError as error:
            raise InputRefused("output", f"{self.path}: {error.strerror}; choose another --out") from None
        con = connect()
        make_table(con, "plan", PLAN_COLUMNS, rows, self.path)
        write_table(con, "plan", self.plan_path)
        con.close()
        with atomic_file(self.path / "cohort.json") as sibling:
            write_json(sibling, {"schema": SCHEMA, "version": __version__, **document})

    def planned(
        self, columns: Sequence[str] | None = None, *, where: str = "true", values: Sequence[Any] = ()
    ) -> Iterator[dict[str, Any]]:
        """Rows of the plan, in their order; see `heartlens.cohort.tables.parquet.read_table`."""
        names = [column.name for column in PLAN_COLUMNS if column.name != "settings"] if columns is None else columns
        return read_table(self.plan_path, names, where=where, values=values)

    def row_path(self, key: str, settings: str) -> Path:
        """Where the row of a series lies."""
        return self.rows / f"{key}-{settings}.jsonl"

    def result_path(self, key: str, settings: str) -> Path:
        """Where the result folder of a series lies."""
        return self.results / key / settings

    def row(self, key: str, settings: str) -> dict[str, Any] | None:
        """The row of a series; None where there is none, or it is damaged and has to be made again."""
        return self.row_with_lesions(key, settings)[0]

    def row_with_lesions(self, key: str, settings: str) -> tuple[dict[str, Any] | None, bytes]:
        """The row of a series, and its lesions as the lines of JSON that the table is made of."""
        try:
            with open(f"{self.rows}/{key}-{settings}.jsonl", "rb") as file:
                first, _, lesions = file.read().partition(b"\n")
            document: dict[str, Any] = json.loads(first)
            return (document, lesions) if document["key"] == key else (None, b"")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None, b""

    def write_row(self, row: Mapping[str, Any]) -> None:
        """Write a row and its lesions, which it holds as ``lesions_found``, whole or not at all.

        Raises
        ------
        InputRefused
            ``output``: the disk does not take it.
        """
        of_series = {"key": row["key"], "settings": row["settings"]}
        lesions = [{**of_series, **one} for one in row["lesions_found"]]
        own = {name: value for name, value in row.items() if name != "lesions_found"}
        with atomic_file(self.row_path(row["key"], row["settings"])) as sibling:
            sibling.write_text("".join(map(line_of, (own, *lesions))))

    def keys_with_rows(self, settings: str) -> set[str]:
        """Keys of the series that are done with these settings."""
        ending = f"-{settings}.jsonl"
        with os.scandir(self.rows) as entries:
            return {e.name[: -len(ending)] for e in entries if e.name.endswith(ending) and e.name[0] != "."}

    def in_work(self, settings: str) -> list[str]:
        """Keys of the series that somebody has begun and not ended."""
        ending = f"-{settings}"
        with os.scandir(self.work) as entries:
            return sorted(e.name[: -len(ending)] for e in entries if e.name.endswith(ending))

    @contextmanager
    def holding(self, key: str, settings: str) -> Iterator[Attempts | Holder]:
        """Hold a series for the time of its scoring.

        Yields
        ------
        Attempts | Holder
            How often it was begun; or who has it.
        """
        place = self.work / f"{key}-{settings}"
        lock: CaseLock | Holder | None = None
        for _ in range(100):  # whoever ends a scan deletes the folder, perhaps before it is locked here
            place.mkdir(exist_ok=True)
            lock = lock_case(place)
            if lock is not None:
                break
            time.sleep(0.01)
        if lock is None:
            raise InputRefused("output", f"{place} cannot be written; allow it, then run again")
        if isinstance(lock, Holder):
            yield lock
            return
        attempts = Attempts(place)
        try:
            yield attempts
        finally:
            if attempts.is_over:
                with suppress(OSError):
                    attempts.path.unlink(missing_ok=True)
            lock.release()
            with suppress(OSError):
                place.rmdir()

    def forget_attempts(self, key: str, settings: str) -> None:
        """Count nothing against a scan that was stopped by a person."""
        shutil.rmtree(self.work / f"{key}-{settings}", ignore_errors=True)

    def clear(self, key: str, settings: str) -> bool:
        """Delete row and result of a series to score it again; False where a reader's work lies in the result."""
        result = self.result_path(key, settings)
        if has_readers_work(result):
            return False
        shutil.rmtree(result, ignore_errors=True)
        self.row_path(key, settings).unlink(missing_ok=True)
        self.forget_attempts(key, settings)
        return True

    def sweep(self) -> None:
        """Clear away what killed processes left of files that they had begun; nobody else may be at work."""
        for place in (self.path, self.rows):
            remove_unfinished_files(place)


class Attempts:
    """How often the scoring of a series was begun, in a file: a process that is killed says nothing any more.

    Parameters
    ----------
    place
        Folder of the series in work.
    """

    def __init__(self, place: Path) -> None:
        self.path = place / "attempts"
        self.is_over = False

    @property
    def count(self) -> int:
        """So far."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return 0

    def begin(self) -> None:
        """Count one more, before anything can go wrong."""
        sibling = self.path.with_name("attempts.new")
        sibling.write_text(str(self.count + 1))
        os.replace(sibling, self.path)

    def end(self) -> None:
        """Count no more: the series has its row, or was stopped by a person."""
        self.is_over = True


def has_readers_work(result: Path) -> bool:
    """Whether a reader has edited or signed the case of a result."""
    place = os.path.join(result, "case")
    for name in ("edits.jsonl", "signature.json"):
        with suppress(OSError):
            if os.stat(os.path.join(place, name)).st_size:
                return True
    return False


def settings_of(words: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key of how scans are scored, and what it stands for.

    Parameters
    ----------
    words
        The options, by their names on the command line.

    Raises
    ------
    InputRefused
        The bundle cannot be used.
    """
    from heartlens.networks.bundle import find_bundle, load_bundle

    place = find_bundle(words.get("bundle"))
    bundle = None if place is None else load_bundle(place)
    asked = {name: value for name, value in words.items() if name not in ("bundle", "device", "shared-mode")}
    document = {
        "version": __version__,
        "bundle": None if bundle is None else {"title": bundle.title, "files": bundle.checksums()},
        "options": asked,
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16], document


def keep_settings(folder: CohortFolder, settings: str, document: Mapping[str, Any]) -> None:
    """Write down what the key of the settings stands for, and that they are the latest."""
    with atomic_file(folder.path / "settings" / f"{settings}.json") as sibling:
        write_json(sibling, document)


def latest_settings(folder: CohortFolder, wanted: str = "") -> str:
    """The settings of the last run, or those that are named by the beginning of their key; "" before any run.

    Raises
    ------
    InputRefused
        ``input``: no settings begin so, or several.
    """
    found = sorted((folder.path / "settings").glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    names = [path.stem for path in found if path.name[0] != "."]
    if not wanted:
        return names[-1] if names else ""
    fitting = [name for name in names if name.startswith(wanted)]
    if len(fitting) != 1:
        raise InputRefused("input", f"--settings {wanted}: expected one of {', '.join(names) or 'none yet'}")
    return fitting[0]
