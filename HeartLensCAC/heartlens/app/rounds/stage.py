"""How far a case has come, told from its small files: every list of cases says the same, whoever shows it.

No CT is opened, and nothing is held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from heartlens.case.edits import edits_in_force
from heartlens.case.folder import case_in, case_journal, read_json
from heartlens.case.looked_at import LookedAt
from heartlens.case.seal import REPORT, Seal, SealState, read_seal
from heartlens.core.errors import InputRefused


class CaseStage(str, Enum):
    """How far a case has come."""

    NOT_BEGUN = "not begun"  # a second or third reading that nobody has opened: there is no folder yet
    SCORED = "scored"
    IN_REVIEW = "in review"
    READ = "read"
    SIGNED = "signed"
    UNVERIFIED = "signature not verified"
    ALTERED = "altered after signing"
    DAMAGED = "damaged"

    def __str__(self) -> str:
        return self.value


UNSIGNED = Seal(SealState.NONE)
"""Of a case that nobody has signed, or of which nothing is known."""


@dataclass(frozen=True)
class Standing:
    """What the small files of a case say of it.

    Parameters
    ----------
    stage
        How far it has come.
    seal
        What its signature is worth.
    report
        report.json; None where there is none.
    is_current
        Whether the report knows every edit.
    undecided
        How many lesions a reader has to decide on, those without an artery with them; None where no report says it.
    is_reviewed
        Whether a reader signed it or has an edit in force, and it was not altered.
    problem
        What is damaged; "" when nothing is.
    """

    stage: CaseStage
    seal: Seal = UNSIGNED
    report: Mapping[str, Any] | None = None
    is_current: bool = False
    undecided: int | None = None
    is_reviewed: bool = False
    problem: str = ""


def standing_of(folder: Path) -> Standing:
    """How far the case of a folder has come.

    Parameters
    ----------
    folder
        Of the case, which need not be there yet.
    """
    if case_in(folder) is None:
        return Standing(CaseStage.NOT_BEGUN)
    try:
        edits = case_journal(folder).edits
        is_edited = bool(edits_in_force(edits))
    except InputRefused as refused:
        return Standing(CaseStage.DAMAGED, problem=refused.text)
    except LookupError:  # more was taken back than there was
        return Standing(CaseStage.DAMAGED, problem="the journal takes back an edit that it does not hold")
    seal = read_seal(folder, len(edits))
    try:
        report = read_json(folder / REPORT)
        undecided = _undecided(report)
        is_current = report["edits"] == len(edits)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        stage = CaseStage.ALTERED if seal.state is SealState.ALTERED else CaseStage.DAMAGED
        return Standing(stage, seal, problem=f"{REPORT}: {error}")
    is_settled = is_current and undecided == 0
    stage = stage_of(seal, edits=len(edits), has_begun=has_begun(folder), is_settled=is_settled)
    is_reviewed = stage is CaseStage.SIGNED or (is_edited and stage is not CaseStage.ALTERED)
    return Standing(stage, seal, report, is_current, undecided, is_reviewed)


def stage_of(seal: Seal, *, edits: int, has_begun: bool, is_settled: bool) -> CaseStage:
    """The one judgement of how far a case has come.

    Parameters
    ----------
    seal
        What its signature is worth, or is taken for.
    edits
        How many its journal holds.
    has_begun
        Whether somebody has begun to look at it.
    is_settled
        Whether nothing is known to be left to decide.
    """
    if seal.state is SealState.HOLDS:
        return CaseStage.SIGNED
    if seal.state is SealState.ALTERED:
        return CaseStage.ALTERED
    if seal.state is SealState.UNVERIFIED and not seal.is_edited:
        return CaseStage.UNVERIFIED
    if edits and is_settled:
        return CaseStage.READ
    return CaseStage.IN_REVIEW if edits or has_begun else CaseStage.SCORED


def has_begun(folder: Path) -> bool:
    """Whether a reader has begun to look at a case, or has begun it as a second reading: then it is somebody's.

    Parameters
    ----------
    folder
        Of the case.
    """
    return bool(LookedAt(folder).readers)


def _undecided(report: Mapping[str, Any]) -> int:
    """Version 1 called them `review`."""
    rows = report["lesions"]
    return sum(bool(row.get("undecided") or row.get("review")) or row["artery"] == "UNASSIGNED" for row in rows)
