"""What the worklist says of a scan or a case, and which row follows, precedes or belongs to which. No window.

Names of people are in the rows, because a reader knows cases by them. They are shown, and written into no log.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from slicer.i18n import tr as _

from heartlens.app.rounds.stage import CaseStage
from heartlens.app.rounds.store import StoredCase


class State(Enum):
    """How far a row has come, in the order in which a column sorts it."""

    NEW = _("new")
    QUEUED = _("queued")
    SCORING = _("scoring")
    SCORED = _("scored")
    IN_REVIEW = _("in review")
    READ = _("read")
    SIGNED = _("signed")
    UNVERIFIED = _("signature not verified")
    ALTERED = _("altered after signing")
    DAMAGED = _("damaged")


STATES = {
    CaseStage.SCORED: State.SCORED,
    CaseStage.IN_REVIEW: State.IN_REVIEW,
    CaseStage.READ: State.READ,
    CaseStage.SIGNED: State.SIGNED,
    CaseStage.UNVERIFIED: State.UNVERIFIED,
    CaseStage.ALTERED: State.ALTERED,
    CaseStage.DAMAGED: State.DAMAGED,
}

TO_READ = (State.SCORED, State.IN_REVIEW, State.READ, State.UNVERIFIED, State.ALTERED)
"""States of a case that still waits for a signature."""


class Round(Enum):
    """Which reading of a scan a case is."""

    FIRST = "{state}"
    SECOND = _("second: {state}")
    THIRD = _("third: {state}")


@dataclass(frozen=True)
class Scan:
    """A CT series, and whose it is.

    Parameters
    ----------
    patient, patientID
        As the header says them; for the screen alone.
    mark
        Opaque mark of the patient, for comparing; "" where nothing says who it is.
    studyDate
        As 2026-11-30; "" where it is not known.
    description
        Of the series.
    uid
        Of the series; "" for a CT that was not DICOM.
    """

    patient: str = ""
    patientID: str = ""
    mark: str = ""
    studyDate: str = ""
    description: str = ""
    uid: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the worklist.

    Parameters
    ----------
    key
        Unique in the list: a case's folder, or the UID of a series that has no case.
    scan
        The CT, and whose it is.
    state
        How far it has come.
    case
        Folder of the case; None for a series that was not scored.
    round
        Which reading it is.
    undecided
        Lesions that a reader has to decide on; None where it is not known.
    note
        Why it was not scored, or what is damaged; "" for nothing.
    """

    key: str
    scan: Scan
    state: State
    case: "Path | None" = None
    round: Round = Round.FIRST
    undecided: "int | None" = None
    note: str = ""

    @property
    def stateWords(self) -> str:
        """What the column says of the state."""
        return self.round.value.format(state=self.state.value)


def rowOfSeries(scan: Scan) -> Row:
    """The row of a series that has no case."""
    return Row(scan.uid, scan, State.NEW)


def rowOfCase(case: StoredCase, scan: "Scan | None") -> Row:
    """The row of a case.

    Parameters
    ----------
    case
        As it lies in its folder.
    scan
        Its CT, where it is known; else the folder's name stands for it.
    """
    folder = case.folder.parent if case.folder.name == "case" else case.folder
    shown = scan or Scan(description=folder.name, uid=case.series_uid)
    which = Round.THIRD if case.is_third else Round.SECOND if case.is_second else Round.FIRST
    return Row(str(case.folder), shown, STATES[case.stage], case.folder, which, case.undecided, case.problem)


def nextRow(rows: Sequence[Row], after: "Row | None") -> "Row | None":
    """The case to read next: one with undecided lesions first, then in the order of the list; None when all are signed.

    Who reads second goes on to another second reading, and who reads first or third to another one of those.

    Parameters
    ----------
    rows
        As they are shown.
    after
        The case that is open, which is not the next one.
    """
    which = Round.FIRST if after is None else after.round
    keys = [row.key for row in rows]
    start = keys.index(after.key) + 1 if after is not None and after.key in keys else 0
    waiting = [
        row
        for row in [*rows[start:], *rows[:start]]
        if row.state in TO_READ and row.round is which and (after is None or row.key != after.key)
    ]
    return next((row for row in waiting if row.undecided), waiting[0] if waiting else None)


def priorOf(row: Row, rows: Iterable[Row]) -> "Row | None":
    """The latest earlier scan of the same patient, a signed case of it before others; None where there is none.

    Parameters
    ----------
    row
        The current scan.
    rows
        Of the whole list.
    """
    if not (row.scan.mark and row.scan.studyDate):
        return None
    earlier = [
        one
        for one in rows
        if one.scan.mark == row.scan.mark
        and one.scan.studyDate
        and one.scan.studyDate < row.scan.studyDate
        and one.round is Round.FIRST
        and one.state is not State.DAMAGED
    ]
    return max(earlier, key=lambda one: (one.scan.studyDate, *_worth(one)), default=None)


def _worth(row: Row) -> "tuple[bool, bool, str]":
    return row.case is not None, row.state is State.SIGNED, row.key


def readingsOf(row: Row, rows: Iterable[Row]) -> "dict[Round, Row]":
    """The readings of the scan of a row, itself among them: they lie in folders of one name.

    Parameters
    ----------
    row
        Of one of them; of a scan without a case there are none.
    rows
        Of the whole list.
    """
    if row.case is None:
        return {}
    name = _resultName(row.case)
    return {one.round: one for one in rows if one.case is not None and _resultName(one.case) == name} | {row.round: row}


def _resultName(case: Path) -> str:
    return case.parent.name if case.name == "case" else case.name


def withState(row: Row, state: State, note: str = "") -> Row:
    """A row in another state."""
    return replace(row, state=state, note=note)


def summary(rows: Iterable[Row]) -> str:
    """How many rows are in each state, in words."""
    counts = dict.fromkeys(State, 0)
    for row in rows:
        counts[row.state] += 1
    parts = [f"{count} {state.value}" for state, count in counts.items() if count]
    return ", ".join(parts) or _("No CT in Slicer's DICOM database, and no case in the folder of cases.")
