"""The ledger: which images came, where each series stands, what became of each result. SQLite, in write-ahead mode.

It holds UIDs, states and numbers, and no name. Every method is one transaction that is on the disk when it returns.
Whoever changes a series says which version of it was judged: where images came meanwhile, nothing is changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from heartlens.core.disk.rights import FILE
from heartlens.pacs.node.rows import ADDED, SCHEMA, ResultRow, SeriesRow, key_of
from heartlens.pacs.node.rules import READY, UNASKED, WAITING, Outcome, Phase

CURRENT = "key=? AND state=? AND version=?"
"""A series as it was when it was judged."""

_WAITS = tuple(state.value for state in WAITING)


class Ledger:
    """The ledger of one node; may be used from several threads.

    Parameters
    ----------
    path
        Of the database.
    is_read_only
        For a look at a node that runs.
    """

    def __init__(self, path: Path, *, is_read_only: bool = False) -> None:
        self._lock = threading.RLock()
        if not is_read_only:  # SQLite gives what it lays beside it the same rights
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, FILE))
        place = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
        self._db = sqlite3.connect(place, uri=True, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        if not is_read_only:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
            for table, name in ADDED:
                if name not in {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}:
                    self._db.execute(f"ALTER TABLE {table} ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    # Images

    def add_image(
        self, study_uid: str, series_uid: str, sop_uid: str, path: str, size: int, *,
        now: float, unfit: str = "", hinted: int | None = None, unreleased: bool = False,
    ) -> bool:  # fmt: skip
        """Note an image that is on the disk; a new one opens its series again, whatever became of it.

        Parameters
        ----------
        study_uid, series_uid, sop_uid
            Of it.
        path, size
            Of its file, bytes.
        now
            Seconds since 1970.
        unfit
            See `SeriesRow`.
        hinted
            How many images its header says the acquisition has; where two headers differ, nobody knows.
        unreleased
            An association brings it, which may still break off.

        Returns
        -------
        bool
            Whether it is new.
        """
        key = key_of(study_uid, series_uid)
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM images WHERE key=? AND sop_uid=? AND path!=''", (key, sop_uid)).fetchone():
                return False
            db.execute("INSERT OR REPLACE INTO images VALUES (?,?,?,?,?)", (key, sop_uid, path, size, now))
            db.execute(
                "INSERT INTO series (key, study_uid, series_uid, state, unfit, hinted, first_at, last_at, unreleased)"
                " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET state=excluded.state, code='', text='',"
                " unfit=CASE WHEN unfit='' THEN excluded.unfit ELSE unfit END, expected=NULL,"
                " hinted=CASE WHEN hinted IS excluded.hinted THEN hinted ELSE NULL END,"
                " last_at=excluded.last_at, next_at=0, attempts=0, asks=0, version=version+1,"
                " unreleased=max(unreleased, excluded.unreleased)",
                (key, study_uid, series_uid, Phase.RECEIVING.value, unfit, hinted, now, now, unreleased),
            )
            return True

    def opened(self, key: str) -> None:
        """An association has begun to bring images of a series."""
        with self._transaction() as db:
            db.execute("UPDATE series SET unreleased=1, version=version+(state IN (?,?)) WHERE key=?", (*_WAITS, key))

    def closed(self, key: str, sop_uids: Iterable[str], *, is_broken: bool, is_open: bool = False) -> None:
        """An association that brought images of a series is over.

        Parameters
        ----------
        key
            Of the series.
        sop_uids
            What it brought, duplicates too.
        is_broken
            It was not released. A later one that brings everything that is here makes that good.
        is_open
            Another one that brings images of it is not over.
        """
        brought = set(sop_uids)
        with self._transaction() as db:
            here = {row[0] for row in db.execute("SELECT sop_uid FROM images WHERE key=?", (key,))}
            mended = not is_broken and here <= brought
            db.execute(
                "UPDATE series SET unreleased=?, broken=CASE WHEN ? THEN 1 WHEN ? THEN 0 ELSE broken END,"
                " version=version+(state IN (?,?)) WHERE key=?",
                (is_open, is_broken, mended, *_WAITS, key),
            )

    def forget_images(self, row: SeriesRow, state: Phase, *, code: str = "", text: str = "") -> bool:
        """The files of a series are deleted; that they were here stays known, and what became of the series.

        Parameters
        ----------
        row
            As it was when that was decided.
        state, code, text
            Where the series stands then.

        Returns
        -------
        bool
            False where images came meanwhile; nothing was changed.
        """
        with self._transaction() as db:
            done = db.execute(
                f"UPDATE series SET state=?, code=?, text=?, next_at=0, version=version+1 WHERE {CURRENT}",
                (state.value, code, text, row.key, row.state.value, row.version),
            )
            if done.rowcount:
                db.execute("UPDATE images SET path='' WHERE key=?", (row.key,))
            return done.rowcount == 1

    def paths(self, key: str) -> list[str]:
        """The files of a series."""
        rows = self._rows("SELECT path FROM images WHERE key=? AND path!='' ORDER BY path", (key,))
        return [row["path"] for row in rows]

    def has_path(self, path: str) -> bool:
        """Whether a file is known."""
        return bool(self._rows("SELECT 1 FROM images WHERE path=?", (path,)))

    def has_image(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Whether an image is here already."""
        key = key_of(study_uid, series_uid)
        return bool(self._rows("SELECT 1 FROM images WHERE key=? AND sop_uid=? AND path!=''", (key, sop_uid)))

    # Where a series stands

    def restart(self) -> None:
        """What a node that died left in the middle: open associations broke off, scoring begins anew."""
        with self._transaction() as db:
            db.execute("UPDATE series SET broken=1, unreleased=0 WHERE unreleased")
        self.restart_scoring()

    def restart_scoring(self) -> None:
        """Nobody scores: a series of which that is said is judged again. It has cost one of its attempts."""
        if not self._rows("SELECT 1 FROM series WHERE state=?", (Phase.SCORING.value,)):
            return
        with self._transaction() as db:
            db.execute(
                "UPDATE series SET state=?, next_at=0 WHERE state=?", (Phase.RECEIVING.value, Phase.SCORING.value)
            )

    def set_state(
        self, row: SeriesRow, state: Phase, *, code: str = "", text: str = "", next_at: float = 0.0,
        attempts: int | None = None, asks: int = 0, expected: int | None = None,
    ) -> bool:  # fmt: skip
        """Say where a series stands, unless something came between.

        Parameters
        ----------
        row
            As it was when it was judged.
        state, code, text, next_at
            New.
        attempts
            New; None leaves it.
        asks
            New.
        expected
            New; None leaves it.

        Returns
        -------
        bool
            False where it stands elsewhere by now; nothing was changed.
        """
        with self._transaction() as db:
            done = db.execute(
                "UPDATE series SET state=?, code=?, text=?, next_at=?, asks=?, attempts=coalesce(?, attempts),"
                f" expected=coalesce(?, expected) WHERE {CURRENT}",
                (state.value, code, text, next_at, asks, attempts, expected, row.key, row.state.value, row.version),
            )
            return done.rowcount == 1

    def is_current(self, row: SeriesRow) -> bool:
        """Whether a series still stands where it stood."""
        return bool(self._rows(f"SELECT 1 FROM series WHERE {CURRENT}", (row.key, row.state.value, row.version)))

    def begin_scoring(self, row: SeriesRow) -> SeriesRow | None:
        """The series as it is while it is scored, which costs an attempt; None where images came meanwhile."""
        with self._transaction() as db:
            done = db.execute(
                f"UPDATE series SET state=?, unverified=?, revision=revision+1, attempts=attempts+1 WHERE {CURRENT}",
                (Phase.SCORING.value, row.state is Phase.UNVERIFIED, row.key, row.state.value, row.version),
            )
            return self.series(key=row.key)[0] if done.rowcount == 1 else None

    def hurry(self, state: Phase, code: str) -> None:
        """What waits for a reason that is no longer there need not wait."""
        with self._transaction() as db:
            db.execute("UPDATE series SET next_at=0 WHERE state=? AND code=?", (state.value, code))

    # Results

    def add_result(self, row: SeriesRow, outcome: Outcome, folder: str, now: float) -> Phase:
        """Note a result; those before it are superseded, and so is this one where images came meanwhile.

        Parameters
        ----------
        row
            As `begin_scoring` gave it.
        outcome
            What becomes of it.
        folder
            Where it lies.
        now
            Seconds since 1970.

        Returns
        -------
        Phase
            Of the result.
        """
        with self._transaction() as db:
            done = db.execute(
                f"UPDATE series SET state=?, code=?, text=?, next_at=0, attempts=0 WHERE {CURRENT}",
                (outcome.state.value, outcome.code, outcome.text, row.key, row.state.value, row.version),
            )
            state = outcome.state if done.rowcount == 1 else Phase.SUPERSEDED
            db.execute(
                "UPDATE results SET state=? WHERE key=? AND revision<?", (Phase.SUPERSEDED.value, row.key, row.revision)
            )
            db.execute(
                "INSERT OR REPLACE INTO results (key, revision, state, folder, at, images) VALUES (?,?,?,?,?,?)",
                (row.key, row.revision, state.value, folder, now, row.images),
            )
        return state

    def add_sent(self, result: ResultRow, sent: Sequence[str]) -> None:
        """The archive has these files of a result."""
        with self._transaction() as db:
            db.execute(
                "UPDATE results SET sent=? WHERE key=? AND revision=?", (json.dumps(sent), result.key, result.revision)
            )

    def settle(
        self, row: SeriesRow, result: ResultRow, state: Phase, *,
        code: str = "", text: str = "", next_at: float = 0.0, attempts: int = 0,
    ) -> bool:  # fmt: skip
        """Say what became of a series and of its last result, both or neither.

        Parameters
        ----------
        row, result
            As they were.
        state
            SENT or UNSENT of both; any other is of the series, and the result is superseded.
        code, text, next_at, attempts
            Of the series.

        Returns
        -------
        bool
            False where images came meanwhile; nothing was changed.
        """
        of_result = state if state in (Phase.SENT, Phase.UNSENT) else Phase.SUPERSEDED
        with self._transaction() as db:
            done = db.execute(
                f"UPDATE series SET state=?, code=?, text=?, next_at=?, attempts=?, asks=0 WHERE {CURRENT}",
                (state.value, code, text, next_at, attempts, row.key, row.state.value, row.version),
            )
            if done.rowcount:
                db.execute(
                    "UPDATE results SET state=? WHERE key=? AND revision=?",
                    (of_result.value, result.key, result.revision),
                )
            return done.rowcount == 1

    def results(self, key: str) -> list[ResultRow]:
        """All results of a series, oldest first."""
        rows = self._rows("SELECT * FROM results WHERE key=? ORDER BY revision", (key,))
        return [ResultRow.of(row) for row in rows]

    def has_result(self, folder: str) -> bool:
        """Whether a result folder is known."""
        return bool(self._rows("SELECT 1 FROM results WHERE folder=?", (folder,)))

    # Looking

    def series(self, states: Sequence[Phase] = (), key: str = "", *, due_at: float | None = None) -> list[SeriesRow]:
        """Series, those that waited longest first; in some states, of one key, or whose time has come."""
        where: list[str] = ["1"]
        words: list[str | float] = []
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
            words += [state.value for state in states]
        if key:
            where.append("key=?")
            words.append(key)
        if due_at is not None:
            where.append("next_at<=?")
            words.append(due_at)
        count = "(SELECT count(*) FROM images i WHERE i.key=series.key AND i.path{}'') AS {}"
        rows = self._rows(
            f"SELECT *, {count.format('!=', 'images')}, {count.format('=', 'deleted')} FROM series"
            f" WHERE {' AND '.join(where)} ORDER BY last_at",
            words,
        )
        return [SeriesRow.of(row) for row in rows]

    def waiting(self, now: float | None = None) -> list[SeriesRow]:
        """Series that are to be judged."""
        return self.series(WAITING, due_at=now)

    def ready(self, now: float | None = None) -> list[SeriesRow]:
        """Series that are to be scored."""
        return self.series(READY, due_at=now)

    def counts(self) -> dict[Phase, int]:
        """How many series stand where."""
        rows = self._rows("SELECT state, count(*) AS n FROM series GROUP BY state", ())
        found = {Phase(row["state"]): int(row["n"]) for row in rows}
        return {state: found.get(state, 0) for state in Phase}

    def waits_for_archive(self) -> list[str]:
        """Why series wait for the archive at this moment, each reason once."""
        rows = self._rows(
            "SELECT text FROM series WHERE state=? OR (state=? AND code=?) GROUP BY text ORDER BY min(last_at)",
            (Phase.UNSENT.value, Phase.RECEIVING.value, UNASKED),
        )
        return [row["text"] for row in rows]

    def fact(self, name: str, default: str = "") -> str:
        """Something the node remembers."""
        rows = self._rows("SELECT value FROM facts WHERE name=?", (name,))
        return str(rows[0]["value"]) if rows else default

    def remember(self, name: str, value: str) -> None:
        """Remember something."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?,?)", (name, value))

    def _rows(self, query: str, words: Sequence[object]) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, tuple(words)).fetchall()
