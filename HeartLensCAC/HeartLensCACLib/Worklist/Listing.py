"""Reads the worklist a little at a time, so that a list of thousands keeps nobody waiting.

The folder of cases is read first, then the database, which says whose they are; rows appear as soon as both have been
asked. Then each case is looked at more closely: its signature, its undecided lesions, and a header where the database
does not know its series. What was read of a case is remembered until one of its files changes.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from heartlens.app.rounds.store import StoredCase, look_closer, read_stored, stored_cases
from heartlens.case.journal import JOURNAL
from heartlens.case.looked_at import VIEWED
from heartlens.case.seal import REPORT, SIGNATURE
from HeartLensCACLib.Timers import singleShot
from HeartLensCACLib.Worklist.Database import ctSeries, openDatabase, scanOfFile
from HeartLensCACLib.Worklist.Rows import Row, Scan, rowOfCase, rowOfSeries

SLICE_S = 0.015
"""How long the list is read before Slicer has its turn."""

ROWS_AT_ONCE = 25
"""Rows that are shown then at most: drawing them takes time, too."""

READ_FILES = ("case.json", JOURNAL, SIGNATURE, REPORT, VIEWED)
"""What of a case a row depends on."""

Stamp = tuple[int, ...]


class Listing:
    """The rows, and how they come to be.

    Parameters
    ----------
    changed
        Called with rows that are new or another than before, and with keys of rows that are gone.
    ended
        Called when everything was read.
    """

    def __init__(self, changed: "Callable[[list[Row], set[str]], None]", ended: Callable[[], None]) -> None:
        self.rows: dict[str, Row] = {}
        self._changed, self._ended = changed, ended
        self._root = Path()
        self._steps: Iterator[Row | None] | None = None
        self._timer = singleShot(0, self._work)
        self._found: set[str] = set()
        self._gone: set[str] = set()
        self._read: dict[Path, tuple[Stamp, StoredCase]] = {}
        self._headers: dict[str, Scan | None] = {}  # by series, of cases that the database does not know

    @property
    def isReading(self) -> bool:
        """Whether the list is not complete yet."""
        return self._steps is not None

    def refresh(self, root: Path) -> None:
        """Read folder and database again; rows stay until they are known to be gone.

        Parameters
        ----------
        root
            Folder in which cases are kept.
        """
        self._root, self._found = root, set()
        self._steps = self._everything()
        self._timer.start()

    def reread(self, folder: Path) -> None:
        """One case has changed, or is new."""
        scan = next((row.scan for row in self.rows.values() if row.case == folder), None)
        case = self._looked(self._stored(folder))
        if scan is None or scan.uid != case.series_uid:
            scan = self._known().get(case.series_uid)
        self._take([rowOfCase(case, scan or self._header(case))], {case.series_uid})

    def put(self, row: Row) -> None:
        """Another state of a row."""
        self._take([row])

    def stop(self) -> None:
        """Read no further."""
        self._timer.stop()
        self._steps = None

    def _work(self) -> None:
        end, rows = time.perf_counter() + SLICE_S, []
        while self._steps is not None and len(rows) < ROWS_AT_ONCE and time.perf_counter() < end:
            try:
                row = next(self._steps)
            except StopIteration:
                self._steps = None
                break
            if row is not None:
                rows.append(row)
        gone, self._gone = self._gone, set()
        self._take(rows, gone)
        if self._steps is not None:
            self._timer.start()
        else:
            self._ended()

    def _take(self, rows: Iterable[Row], gone: "Iterable[str]" = ()) -> None:
        latest = {row.key: row for row in rows}  # a case may have been looked at twice in one slice of time
        changed = [row for row in latest.values() if self.rows.get(row.key) != row]
        left = {key for key in gone if self.rows.pop(key, None) is not None}
        self.rows.update((row.key, row) for row in changed)
        if changed or left:
            self._changed(changed, left)

    def _everything(self) -> "Iterator[Row | None]":
        cases: dict[str, list[StoredCase]] = {}
        for folder in stored_cases(self._root):
            case = self._stored(folder)
            cases.setdefault(case.series_uid, []).append(case)
            yield None
        shown: list[tuple[StoredCase, Scan | None]] = []
        database = openDatabase()
        for scan in ctSeries(database) if database is not None else ():
            if scan is None:
                yield None
                continue
            mine = cases.pop(scan.uid, [])
            for case in mine:
                shown.append((case, scan))
                yield self._row(rowOfCase(case, scan))
            if not mine:
                yield self._row(rowOfSeries(scan))
        for case in [case for some in cases.values() for case in some]:
            shown.append((case, self._headers.get(case.series_uid)))
            yield self._row(rowOfCase(*shown[-1]))
        self._gone = set(self.rows) - self._found
        yield None
        for case, scan in shown:
            yield from self._closer(case, scan)

    def _closer(self, case: StoredCase, scan: "Scan | None") -> "Iterator[Row | None]":
        case = self._looked(case)
        yield None
        yield rowOfCase(case, scan or self._header(case))

    def _row(self, row: Row) -> "Row | None":
        """The row, unless it is being scored: then the batch knows its state."""
        self._found.add(row.key)
        there = self.rows.get(row.key)
        return None if there is not None and row.case is None and there.scan == row.scan else row

    def _stored(self, folder: Path) -> StoredCase:
        stamp = stampOf(folder)
        known = self._read.get(folder)
        if known is None or known[0] != stamp:
            known = self._read[folder] = stamp, read_stored(folder, self._root)
        return known[1]

    def _looked(self, case: StoredCase) -> StoredCase:
        if case.undecided is None:
            case = look_closer(case)
            self._read[case.folder] = self._read[case.folder][0], case
        return case

    def _header(self, case: StoredCase) -> "Scan | None":
        if case.series_uid and case.series_uid not in self._headers:
            place = next((source for source in case.sources if source.exists()), None)
            self._headers[case.series_uid] = None if place is None else scanOfFile(place, case.series_uid)
        return self._headers.get(case.series_uid)

    def _known(self) -> "dict[str, Scan]":
        return {row.scan.uid: row.scan for row in self.rows.values() if row.scan.mark or row.scan.patient}


def stampOf(folder: Path) -> Stamp:
    """When the files of a case were last changed, in ns; 0 for one that is not there."""
    times = []
    for name in READ_FILES:
        try:
            times.append((folder / name).stat().st_mtime_ns)
        except OSError:
            times.append(0)
    return tuple(times)
