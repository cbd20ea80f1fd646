"""The folder of a cohort: what is planned, what is done, who is at work. There is no other state.

::

    cohort.json              options; written by `plan`
    plan.parquet             a row a series
    settings/SETTINGS.json   what was scored with which version, bundle and options
    rows/KEY-SETTINGS.jsonl  a result or a failure each, by rename: the row, a line for each lesion, and a checksum
    results/KEY/SETTINGS/    the result folder of `heartlens score`
    work/KEY-SETTINGS/       locked while a scan is in work; counts how often it was begun
    pairs/                   comparisons that were made
    scans/                   what `plan --pacs` fetched
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
from heartlens.cohort.readers import has_readers_work
from heartlens.cohort.tables.columns import PLAN_COLUMNS
from heartlens.cohort.tables.parquet import connect, export_table, line_of, make_table, noticing_a_full_disk, read_table
from heartlens.core.atomic import atomic_file, reason_of, remove_unfinished_files
from heartlens.core.disk.renaming import sync_file
from heartlens.core.disk.workplace import new_token
from heartlens.core.errors import InputRefused

SCHEMA = "heartlens.cohort/1"

MOST_ATTEMPTS = 3
"""So often a scan may end its process; then it is recorded as a crash and the rest goes on."""

PRIVATE = 0o700

SCRATCH = ".tables-"
"""How the folders begin in which tables are made; each is locked as long as somebody makes them."""

LEFT_SECONDS = 3600.0
"""Unfinished files that nobody wrote to for so long are nobody's: jobs of an array and `table` work beside a run."""

SCANS = "scans"
"""What `plan` fetched of a PACS."""

CLEARED = ".cleared-"
"""How results begin in `work` that are being deleted: a process that is killed leaves no half of one elsewhere."""


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
        self.settings = self.path / "settings"

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

    def require_free(self, *, force: bool) -> None:
        """Refuse to plan here where something else lies, or a plan that is not to be replaced.

        Parameters
        ----------
        force
            Replace a plan.

        Raises
        ------
        InputRefused
            ``output``
        """
        is_planned = (self.path / "cohort.json").is_file()
        ours = {SCANS, *(place.name for place in (self.rows, self.results, self.work, self.pairs, self.settings))}
        names = {place.name for place in self.path.iterdir()} if self.path.is_dir() else set()
        if not is_planned and (names - ours or (self.path.exists() and not self.path.is_dir())):
            raise InputRefused("output", f"{self.path} exists and is no cohort; choose another --out")
        if is_planned and not force:
            raise InputRefused("output", f"{self.path} is planned already; --force plans again, and results stay")

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
        if document.get("schema") != SCHEMA or not isinstance(document.get("options"), dict):
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
        con = connect()
        made: list[Path] = []
        try:
            self._make_folders(made)
            # Both are on the disk before one has its name: options and rows of two plans never stand together.
            with (
                noticing_a_full_disk(self.path),
                atomic_file(self.plan_path) as plan,
                atomic_file(self.path / "cohort.json") as cohort,
            ):
                make_table(con, "plan", PLAN_COLUMNS, rows, plan.parent)
                export_table(con, "plan", plan)
                write_json(cohort, {"schema": SCHEMA, "version": __version__, **document})
                sync_file(cohort)
        except BaseException as error:
            for place in reversed(made):  # or the next plan would find a folder that is no cohort
                with suppress(OSError):
                    place.rmdir()
            if isinstance(error, OSError):
                raise InputRefused("output", f"{self.path}: {reason_of(error)}; choose another --out") from None
            raise
        finally:
            con.close()

    def _make_folders(self, made: list[Path]) -> None:
        """Make what is not there yet, and note it."""
        parents = [place for place in self.path.parents if not place.exists()]
        for place in (*reversed(parents), self.path, self.rows, self.results, self.work, self.pairs, self.settings):
            if not place.is_dir():
                place.mkdir(mode=PRIVATE if place == self.path else 0o777)
                made.append(place)

    def planned(
        self, columns: Sequence[str] | None = None, *, where: str = "true", values: Sequence[Any] = ()
    ) -> Iterator[dict[str, Any]]:
        """Rows of the plan, in their order; see `heartlens.cohort.tables.parquet.read_table`."""
        names = [column.name for column in PLAN_COLUMNS] if columns is None else columns
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
                data = file.read()
            body = data[: data.rfind(b"\n", 0, -1) + 1]
            if data[len(body) :] != _seal_of(body):
                return None, b""
            first, _, lesions = body.partition(b"\n")
            document: dict[str, Any] = json.loads(first)
            is_meant = document["key"] == key and document["settings"] == settings
            return (document, lesions) if is_meant else (None, b"")
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None, b""

    def write_row(self, row: Mapping[str, Any]) -> None:
        """Write a row and its lesions, which it holds as ``lesions_found``, whole or not at all.

        Raises
        ------
        InputRefused
            ``output``: the disk does not take it.
        """
        with atomic_file(self.row_path(row["key"], row["settings"])) as sibling:
            sibling.write_bytes(lines_of_row(row))

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
            try:
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise _not_written(place, error) from None
            lock = lock_case(place)
            if lock is not None:
                break
            time.sleep(0.01)
        if lock is None:
            raise InputRefused("output", f"{place} cannot be written; allow it or make room, then run again")
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
        """Delete row and result of a series to score it again.

        Returns
        -------
        bool
            False where somebody has it in work, or a reader has the result open or has worked on it: then all stays.

        Raises
        ------
        InputRefused
            ``output``: the disk does not let it go.
        """
        with self.holding(key, settings) as held:
            if isinstance(held, Holder):
                return False
            try:
                return self.discard_result(key, settings, with_row=True)
            finally:
                held.end()

    def discard_result(self, key: str, settings: str, *, with_row: bool = False) -> bool:
        """Delete the result of a series, which the caller holds; as `clear`.

        Parameters
        ----------
        key, settings
            Of the series, and of how it was scored.
        with_row
            Its row, too.
        """
        from heartlens.report.outputs import hold_for_replacing

        result, aside = self.result_path(key, settings), self.work / f"{CLEARED}{new_token()}"
        try:
            with hold_for_replacing(result):
                if has_readers_work(result):
                    return False
                if with_row:
                    self.row_path(key, settings).unlink(missing_ok=True)
                with suppress(FileNotFoundError):
                    os.rename(result, aside)
        except InputRefused:  # a reader has it open
            return False
        except OSError as error:
            raise _not_written(result, error) from None
        shutil.rmtree(aside, ignore_errors=True)
        return True

    def sweep(self) -> None:
        """Clear away what killed processes left of files that they had begun; no other run may be at work."""
        for place in (self.path, self.rows, self.settings, self.pairs):
            remove_unfinished_files(place, older_than_s=LEFT_SECONDS)
        for place in self.work.glob(f"{CLEARED}*"):
            shutil.rmtree(place, ignore_errors=True)
        for place in self.path.glob(f"{SCRATCH}*"):
            lock = lock_case(place)  # somebody may be making tables meanwhile
            if isinstance(lock, CaseLock):
                shutil.rmtree(place, ignore_errors=True)
                lock.release()


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
        try:
            sibling.write_text(str(self.count + 1))
            os.replace(sibling, self.path)
        except OSError as error:
            with suppress(OSError):
                sibling.unlink(missing_ok=True)
            raise _not_written(self.path.parent, error) from None

    def end(self) -> None:
        """Count no more: the series has its row, or was stopped by a person."""
        self.is_over = True


def lines_of_row(row: Mapping[str, Any]) -> bytes:
    """What the file of a row holds: the row, a line for each lesion, and a checksum over them.

    Parameters
    ----------
    row
        With its lesions as ``lesions_found``.
    """
    of_series = {"key": row["key"], "settings": row["settings"]}
    lesions = [{**of_series, **one} for one in row["lesions_found"]]
    own = {name: value for name, value in row.items() if name != "lesions_found"}
    body = "".join(map(line_of, (own, *lesions))).encode()
    return body + _seal_of(body)


def _seal_of(body: bytes) -> bytes:
    """The last line of a row: a file that was cut or changed does not end so."""
    return line_of({"sha256": hashlib.sha256(body).hexdigest()}).encode()


def _not_written(place: Path, error: OSError) -> InputRefused:
    return InputRefused("output", f"cannot write {place}: {reason_of(error)}; make room or allow it, then run again")
