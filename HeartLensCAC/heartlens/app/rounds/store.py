"""What lies in a folder of cases, told from their small files: no CT is opened, and nothing is locked.

A list of many cases is read in two passes, each a case at a time, so that whoever shows it can stay responsive: first
what a row needs (`read_stored`), then what takes a second look (`look_closer`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from heartlens.app.rounds.stage import CaseStage, has_begun, stage_of, standing_of
from heartlens.case.folder import case_in, read_json
from heartlens.case.inputs import ADJUDICATION
from heartlens.case.journal import JOURNAL
from heartlens.case.seal import SIGNATURE, Seal, SealState

SECOND_FOLDER = "second"
"""Folder within a folder of cases that holds second readings, each under the name of the first one's result."""

THIRD_FOLDER = "third"
"""The same for cases that were made of two readings."""


@dataclass(frozen=True)
class StoredCase:
    """A case of a folder of cases.

    Parameters
    ----------
    folder
        Of the case.
    stage
        How far it has come; until `look_closer` a signature is taken at its word, and lesions are taken to be left.
    is_second
        Whether it is a second reading, by where it lies.
    study_uid, series_uid
        Of the CT; "" where it was not DICOM.
    sources
        Where the CT was read from.
    undecided
        How many lesions a reader has to decide on; None until `look_closer`, and where no report says it.
    problem
        What is damaged; "" when nothing is known to be.
    is_third
        Whether it was made of two readings, as it says itself.
    """

    folder: Path
    stage: CaseStage
    is_second: bool = False
    study_uid: str = ""
    series_uid: str = ""
    sources: tuple[Path, ...] = ()
    undecided: int | None = None
    problem: str = ""
    is_third: bool = False


def stored_cases(root: Path) -> Iterator[Path]:
    """Case folders in a folder of cases, newest name first, second readings after the others, third ones last.

    A folder that is not there, or cannot be read, holds none.

    Parameters
    ----------
    root
        Folder in which cases are kept.

    Yields
    ------
    Path
        One after another, so that whoever asks can pause.
    """
    for place in (root, root / SECOND_FOLDER, root / THIRD_FOLDER):
        try:
            with os.scandir(place) as entries:
                names = sorted((entry.name for entry in entries if not entry.name.startswith(".")), reverse=True)
        except OSError:
            continue
        for name in names:
            folder = case_in(place / name)
            if folder is not None:
                yield folder


def second_of(first: Path, root: Path) -> Path:
    """Report folder of the second reading of a case.

    Parameters
    ----------
    first
        Case folder of the first reading.
    root
        Folder in which cases are kept.
    """
    return root / SECOND_FOLDER / (first.parent.name if first.name == "case" else first.name)


def third_of(first: Path, root: Path) -> Path:
    """Report folder of the third case of two readings.

    Parameters
    ----------
    first
        Case folder of the first of them.
    root
        Folder in which cases are kept.
    """
    return root / THIRD_FOLDER / second_of(first, root).name


def read_stored(folder: Path, root: Path) -> StoredCase:
    """What a row needs to know of a case; a damaged one is told as such.

    Parameters
    ----------
    folder
        Of the case.
    root
        Folder in which cases are kept.
    """
    is_second = (root / SECOND_FOLDER) in folder.parents
    try:
        document = read_json(folder / "case.json")
        study, series = (str(document.get(name) or "") for name in ("study_uid", "series_uid"))
        sources = tuple(folder.absolute() / str(place) for place in document["source"])
        is_third = any(warning["code"] == ADJUDICATION for warning in document.get("warnings") or ())
        edits = (folder / JOURNAL).read_bytes().count(b"\n")
        stage = _claimed(folder, edits)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return StoredCase(folder, CaseStage.DAMAGED, is_second, problem=f"{type(error).__name__}: {error}")
    return StoredCase(folder, stage, is_second, study, series, sources, is_third=is_third)


def look_closer(case: StoredCase) -> StoredCase:
    """The same case with its signature judged, its undecided lesions counted, and its stage by both.

    Parameters
    ----------
    case
        As `read_stored` gave it.
    """
    if case.stage is CaseStage.DAMAGED:
        return case
    standing = standing_of(case.folder)
    if standing.stage is CaseStage.NOT_BEGUN:
        return replace(case, stage=CaseStage.DAMAGED, problem="case.json is no longer there")
    return replace(case, stage=standing.stage, undecided=standing.undecided, problem=standing.problem)


def _claimed(folder: Path, edits: int) -> CaseStage:
    """By what files there are, and what the signature says of itself."""
    state = SealState.NONE
    if (folder / SIGNATURE).is_file():
        document = read_json(folder / SIGNATURE)
        if "observer" in document:
            signed = document.get("journal", document).get("edits")
            state = SealState.HOLDS if signed == edits else SealState.LAPSED
    return stage_of(Seal(state), edits=edits, has_begun=has_begun(folder), is_settled=False)
