"""Where scans are looked for: folders, files, and CSV lists with what is known of each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heartlens.core.disk.reading import read_regular
from heartlens.core.errors import InputRefused

RACES = ("white", "chinese", "black", "hispanic")

MOST_LIST_BYTES = 1 << 28
"""Of a CSV list: a million lines."""


@dataclass(frozen=True)
class Given:
    """What the user says of a scan; the names are those of the columns of a CSV list.

    Parameters
    ----------
    subject, exam, scan
        Number of the person in the study, of the examination, and of a repeated scan; they go into the tables.
    series
        Which series of the path is meant, as --series takes it; "" for the best.
    age
        Years.
    sex, race
        As on the command line.
    """

    subject: str = ""
    exam: str = ""
    scan: str = ""
    series: str = ""
    age: float | None = None
    sex: str | None = None
    race: str | None = None


@dataclass(frozen=True)
class Place:
    """A place to look for scans.

    Parameters
    ----------
    path
        Folder or file.
    given
        What the user says of every scan there.
    """

    path: Path
    given: Given = field(default_factory=Given)


COLUMNS = ("path", "series", "subject", "exam", "scan", "age", "sex", "race")
"""Of a CSV list, in any order; only the path must be there."""


def sources_of(places: Sequence[Path]) -> tuple[list[Place], list[str]]:
    """The places of a command, with the rows of every CSV list among them.

    Parameters
    ----------
    places
        Folders, files, CSV lists.

    Returns
    -------
    sources : list[Place]
        In their order.
    notes : list[str]
        What was not used, a sentence each.

    Raises
    ------
    InputRefused
        ``input``: a place that is not there, or a list that cannot be meant.
    """
    sources: list[Place] = []
    notes: list[str] = []
    for place in places:
        if not place.exists():
            raise InputRefused("input", f"no such file or folder: {place}; check the name")
        if place.suffix.lower() == ".csv" and place.is_file():
            found, unused = read_list(place)
            sources += found
            if unused:
                notes.append(f"{place.name}: columns that are not used: {', '.join(unused)}")
        else:
            sources.append(Place(place.absolute()))
    return sources, notes


def read_list(path: Path) -> tuple[list[Place], list[str]]:
    """The rows of a CSV list and its columns that nothing is made of; paths are relative to the list.

    Parameters
    ----------
    path
        Of the list, UTF-8, with the names of `COLUMNS` in its first line.

    Raises
    ------
    InputRefused
        ``input``: no column `path`, or a cell that cannot be meant, by its line.
    """
    try:
        text = read_regular(path, MOST_LIST_BYTES).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputRefused("input", f"{path}: expected a CSV file in UTF-8, found {type(error).__name__}") from None
    head = [name.strip().lower() for name in rows[0]] if rows else []
    if "path" not in head or len(set(head)) < len(head):
        raise InputRefused(
            "input", f"{path}: expected a first line with the column path and each column once; {', '.join(COLUMNS)}"
        )
    sources = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(head):
            raise InputRefused("input", f"{path}, line {number}: expected {len(head)} cells, found {len(row)}")
        cells = {name: cell.strip() for name, cell in zip(head, row, strict=True)}
        if not cells["path"]:
            raise InputRefused("input", f"{path}, line {number}: no path")
        try:
            given = _given(cells)
        except ValueError as error:
            raise InputRefused("input", f"{path}, line {number}: {error}") from None
        sources.append(Place(path.absolute().parent / cells["path"], given))
    return sources, [name for name in head if name not in COLUMNS]


def _given(cells: dict[str, str]) -> Given:
    age = cells.get("age") or None
    try:
        years = None if age is None else float(age)
    except ValueError:
        years = -1.0
    if years is not None and not 0 < years < 130:
        raise ValueError(f"age: expected years, found {age!r}")
    sex, race = cells.get("sex", "").upper() or None, cells.get("race", "").lower() or None
    if sex not in (None, "M", "F"):
        raise ValueError(f"sex: expected M or F, found {sex!r}")
    if race is not None and race not in RACES:
        raise ValueError(f"race: expected one of {', '.join(RACES)}, found {race!r}")
    words = {name: cells.get(name, "") for name in ("subject", "exam", "scan", "series")}
    return Given(**words, age=years, sex=sex, race=race)
