"""The ledger: which images came, where each series stands, what became of each result. SQLite, in write-ahead mode.

It holds UIDs, states and numbers, and no name. Every method is one transaction that is on the disk when it returns.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heartlens.pacs.node.rules import READY, WAITING, Outcome, Phase

SCHEMA = """
CREATE TABLE IF NOT EXISTS series (
  key TEXT PRIMARY KEY, study_uid TEXT NOT NULL, series_uid TEXT NOT NULL, state TEXT NOT NULL,
  code TEXT NOT NULL DEFAULT '', text TEXT NOT NULL DEFAULT '', unfit TEXT NOT NULL DEFAULT '',
  expected INTEGER, hinted INTEGER, broken INTEGER NOT NULL DEFAULT 0, unreleased INTEGER NOT NULL DEFAULT 0,
  first_at REAL NOT NULL, last_at REAL NOT NULL, next_at REAL NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0, revision INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS images (
  key TEXT NOT NULL, sop_uid TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (key, sop_uid));
CREATE TABLE IF NOT EXISTS results (
  key TEXT NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL, folder TEXT NOT NULL,
  sent TEXT NOT NULL DEFAULT '[]', at REAL NOT NULL, PRIMARY KEY (key, revision));
CREATE INDEX IF NOT EXISTS series_by_state ON series (state);
CREATE INDEX IF NOT EXISTS images_by_path ON images (path);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True)
class SeriesRow:
    """One series.

    Parameters
    ----------
    key
        Of its folders; see `key_of`.
    study_uid, series_uid
        As the headers say.
    state, code, text
        Where it stands, and why.
    unfit
        Code of why it is not scored.
    expected
        How many images the archive says it has.
    hinted
        How many images every header says the acquisition has.
    broken
        Whether the last association that brought images of it broke off.
    unreleased
        Whether the association that brought the last new image is not over.
    first_at, last_at
        When the first and the last new image came, seconds since 1970.
    next_at
        Nothing is tried before then.
    attempts
        In vain.
    revision
        How many times it was scored.
    images
        How many different ones are here.
    """

    key: str
    study_uid: str
    series_uid: str
    state: Phase
    code: str
    text: str
    unfit: str
    expected: int | None
    hinted: int | None
    broken: bool
    unreleased: bool
    first_at: float
    last_at: float
    next_at: float
    attempts: int
    revision: int
    images: int


@dataclass(frozen=True)
class ResultRow:
    """What one scoring made of a series.

    Parameters
    ----------
    key, revision
        Of which.
    state
        What became of it.
    folder
        Where it lies.
    sent
        Names of the files that the archive has.
    """

    key: str
    revision: int
    state: Phase
    folder: str
    sent: tuple[str, ...]


def key_of(study_uid: str, series_uid: str) -> str:
    """A name for a series that no sender can choose."""
    return hashlib.sha256(f"{study_uid}\n{series_uid}".encode()).hexdigest()[:24]


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
        place = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
        self._db = sqlite3.connect(place, uri=True, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        if not is_read_only:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)

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
            if db.execute("SELECT 1 FROM images WHERE key=? AND sop_uid=?", (key, sop_uid)).fetchone():
                return False
            db.execute("INSERT INTO images VALUES (?,?,?,?,?)", (key, sop_uid, path, size, now))
            db.execute(
                "INSERT INTO series (key, study_uid, series_uid, state, unfit, hinted, first_at, last_at, unreleased)"
                " VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET state=excluded.state, code='', text='',"
                " unfit=CASE WHEN unfit='' THEN excluded.unfit ELSE unfit END, expected=NULL,"
                " hinted=CASE WHEN hinted IS excluded.hinted THEN hinted ELSE NULL END,"
                " last_at=excluded.last_at, next_at=0, attempts=0, unreleased=excluded.unreleased",
                (key, study_uid, series_uid, Phase.RECEIVING.value, unfit, hinted, now, now, unreleased),
            )
            return True

    def closed(self, key: str, sop_uids: Iterable[str], *, is_broken: bool) -> None:
        """An association that brought images of a series is over.

        Parameters
        ----------
        key
            Of the series.
        sop_uids
            What it brought, duplicates too.
        is_broken
            It was not released. A later one that brings everything that is here makes that good.
        """
        brought = set(sop_uids)
        with self._transaction() as db:
            here = {row[0] for row in db.execute("SELECT sop_uid FROM images WHERE key=?", (key,))}
            if is_broken:
                db.execute("UPDATE series SET unreleased=0, broken=1 WHERE key=?", (key,))
            else:
                mended = here <= brought
                db.execute(
                    "UPDATE series SET unreleased=0, broken=CASE WHEN ? THEN 0 ELSE broken END WHERE key=?",
                    (mended, key),
                )

    def restart(self) -> None:
        """What a node that died left in the middle: open associations broke off, scoring begins anew."""
        with self._transaction() as db:
            db.execute("UPDATE series SET broken=1, unreleased=0 WHERE unreleased")
            db.execute("UPDATE series SET state=? WHERE state=?", (Phase.RECEIVING.value, Phase.SCORING.value))

    def set_state(
        self, row: SeriesRow, state: Phase, *, code: str = "", text: str = "", next_at: float = 0.0, attempts: int = 0
    ) -> bool:
        """Say where a series stands, unless images came meanwhile.

        Parameters
        ----------
        row
            As it was when it was judged.
        state, code, text, next_at, attempts
            New.

        Returns
        -------
        bool
            False where it stands elsewhere by now; nothing was changed.
        """
        with self._transaction() as db:
            done = db.execute(
                "UPDATE series SET state=?, code=?, text=?, next_at=?, attempts=?"
                " WHERE key=? AND state=? AND last_at=?",
                (state.value, code, text, next_at, attempts, row.key, row.state.value, row.last_at),
            )
            return done.rowcount == 1

    def set_expected(self, row: SeriesRow, expected: int | None) -> None:
        """Keep what the archive says of how many images there are."""
        with self._transaction() as db:
            db.execute("UPDATE series SET expected=? WHERE key=?", (expected, row.key))

    def begin_scoring(self, row: SeriesRow) -> int | None:
        """The number of the scoring that begins; None where images came meanwhile."""
        with self._transaction() as db:
            done = db.execute(
                "UPDATE series SET state=?, revision=revision+1 WHERE key=? AND state=? AND last_at=?",
                (Phase.SCORING.value, row.key, row.state.value, row.last_at),
            )
            return row.revision + 1 if done.rowcount == 1 else None

    def add_result(self, row: SeriesRow, revision: int, outcome: Outcome, folder: str, now: float) -> Phase:
        """Note a result; those before it are superseded, and so is this one where images came meanwhile.

        Parameters
        ----------
        row
            As it was when scoring began.
        revision
            Of the scoring.
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
                "UPDATE series SET state=?, code=?, text=?, next_at=0, attempts=0"
                " WHERE key=? AND state=? AND last_at=?",
                (outcome.state.value, outcome.code, outcome.text, row.key, row.state.value, row.last_at),
            )
            state = outcome.state if done.rowcount == 1 else Phase.SUPERSEDED
            db.execute(
                "UPDATE results SET state=? WHERE key=? AND revision<?", (Phase.SUPERSEDED.value, row.key, revision)
            )
            db.execute(
                "INSERT OR REPLACE INTO results (key, revision, state, folder, at) VALUES (?,?,?,?,?)",
                (row.key, revision, state.value, folder, now),
            )
        return state

    def set_result(self, key: str, revision: int, *, state: Phase | None = None, sent: Sequence[str] = ()) -> None:
        """Say what became of a result."""
        with self._transaction() as db:
            if state is not None:
                db.execute("UPDATE results SET state=? WHERE key=? AND revision=?", (state.value, key, revision))
            if sent:
                db.execute("UPDATE results SET sent=? WHERE key=? AND revision=?", (json.dumps(sent), key, revision))

    def results(self, key: str) -> list[ResultRow]:
        """All results of a series, oldest first."""
        rows = self._rows(
            "SELECT key, revision, state, folder, sent FROM results WHERE key=? ORDER BY revision", (key,)
        )
        return [
            ResultRow(r["key"], r["revision"], Phase(r["state"]), r["folder"], tuple(json.loads(r["sent"])))
            for r in rows
        ]

    def has_result(self, folder: str) -> bool:
        """Whether a result folder is known."""
        return bool(self._rows("SELECT 1 FROM results WHERE folder=?", (folder,)))

    def series(self, states: Sequence[Phase] = (), key: str = "") -> list[SeriesRow]:
        """Series, those that waited longest first; in some states, or of one key."""
        where, words = [], []
        if states:
            where.append(f"state IN ({','.join('?' * len(states))})")
            words += [state.value for state in states]
        if key:
            where.append("key=?")
            words.append(key)
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        rows = self._rows(
            "SELECT *, (SELECT count(*) FROM images i WHERE i.key=series.key) AS images FROM series"
            f"{condition} ORDER BY last_at",
            words,
        )
        return [
            SeriesRow(
                **{
                    **dict(row),
                    "state": Phase(row["state"]),
                    "broken": bool(row["broken"]),
                    "unreleased": bool(row["unreleased"]),
                }
            )
            for row in rows
        ]

    def waiting(self) -> list[SeriesRow]:
        """Series that are to be judged."""
        return self.series(WAITING)

    def ready(self) -> list[SeriesRow]:
        """Series that are to be scored."""
        return self.series(READY)

    def paths(self, key: str) -> list[str]:
        """The files of a series."""
        return [row["path"] for row in self._rows("SELECT path FROM images WHERE key=? ORDER BY path", (key,))]

    def has_path(self, path: str) -> bool:
        """Whether a file is known."""
        return bool(self._rows("SELECT 1 FROM images WHERE path=?", (path,)))

    def has_image(self, study_uid: str, series_uid: str, sop_uid: str) -> bool:
        """Whether an image is here already."""
        key = key_of(study_uid, series_uid)
        return bool(self._rows("SELECT 1 FROM images WHERE key=? AND sop_uid=?", (key, sop_uid)))

    def forget_images(self, key: str) -> None:
        """The files of a series were deleted; what became of it stays known."""
        with self._transaction() as db:
            db.execute("DELETE FROM images WHERE key=?", (key,))

    def counts(self) -> dict[Phase, int]:
        """How many series stand where."""
        rows = self._rows("SELECT state, count(*) AS n FROM series GROUP BY state", ())
        found = {Phase(row["state"]): int(row["n"]) for row in rows}
        return {state: found.get(state, 0) for state in Phase}

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
