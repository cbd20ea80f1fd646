"""What the ledger holds: a series, a result of it, and the name that both go by."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from heartlens.pacs.node.rules import Phase

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

ADDED = (("series", "asks"), ("series", "version"), ("series", "unverified"), ("results", "images"))
"""Numbers that a ledger of an earlier version lacks; 0 there."""


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
        To score or to send it, in vain or not over.
    revision
        How many times it was scored.
    asks
        Questions for its number of images that did not make it whole.
    version
        Counts what a judgement hangs on: who judged an older one changes nothing.
    unverified
        Whether it was scored though nobody said how many images it has.
    images
        How many different ones are here.
    deleted
        How many were here and are deleted, and did not come again.
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
    asks: int = 0
    version: int = 0
    unverified: bool = False
    images: int = 0
    deleted: int = 0

    @classmethod
    def of(cls, row: sqlite3.Row) -> SeriesRow:
        """A series as the database has it; a ledger of an earlier version lacks some of it."""
        values: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
        values |= {name: bool(values[name]) for name in ("broken", "unreleased", "unverified") if name in values}
        values["state"] = Phase(values["state"])
        return cls(**values)


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
    images
        How many were scored; 0 where a node of before did not say.
    at
        When it was made, seconds since 1970.
    """

    key: str
    revision: int
    state: Phase
    folder: str
    sent: tuple[str, ...]
    images: int = 0
    at: float = 0.0

    @classmethod
    def of(cls, row: sqlite3.Row) -> ResultRow:
        """A result as the database has it."""
        values: dict[str, Any] = dict(zip(row.keys(), row, strict=True))
        values |= {"state": Phase(values["state"]), "sent": tuple(json.loads(values["sent"]))}
        return cls(**values)


def key_of(study_uid: str, series_uid: str) -> str:
    """A name for a series that no sender can choose."""
    return hashlib.sha256(f"{study_uid}\n{series_uid}".encode()).hexdigest()[:24]
