"""How far each case of a list is, from its folder alone: no CT is opened, and nothing is held."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heartlens.app.rounds.stage import CaseStage, Standing, standing_of
from heartlens.case.journal import JOURNAL
from heartlens.case.lock import LOCK, who_holds
from heartlens.case.looked_at import VIEWED
from heartlens.case.seal import REPORT, SIGNATURE, SealState
from heartlens.case.signature import shown_name
from heartlens.risk.reading_need import Need, need_of
from heartlens.scoring.report import display_agatston
from heartlens.viewer.listed import Listed

WATCHED = ("case.json", REPORT, SIGNATURE, JOURNAL, VIEWED, LOCK)
"""Files by which a row is known to be as it was."""

SHOWN = {**{stage: stage.value for stage in CaseStage}, CaseStage.SCORED: "draft", CaseStage.ALTERED: "altered"}
"""What the page calls a stage."""


@dataclass(frozen=True)
class Row:
    """How far one case is.

    Parameters
    ----------
    stage
        How far it has come.
    words
        What a reader must know of it beside the stage; "" for nothing.
    score
        Agatston as the report says it, or the range that it lies in; "" where the report has none, or is behind.
    need
        Why it needs a reader.
    span
        Width of the range, Agatston.
    is_reviewed
        Whether a reader signed it or has an edit in force: then its labels may teach a network.
    """

    stage: CaseStage
    words: str = ""
    score: str = ""
    need: Need = Need.ROUTINE
    span: float = 0.0
    is_reviewed: bool = False

    @property
    def state(self) -> str:
        """What the page calls its stage."""
        return SHOWN[self.stage]

    @property
    def place(self) -> tuple[int, int, float]:
        """By which rows are ordered: what needs a reader most comes first, and what is signed last."""
        return (self.stage in (CaseStage.SIGNED, CaseStage.DAMAGED), self.need, -self.span)


def row_of(folder: Path) -> Row:
    """How far the case of a folder is.

    Parameters
    ----------
    folder
        Of the case, which need not be there yet.
    """
    standing = standing_of(folder)
    if standing.stage is CaseStage.NOT_BEGUN:
        return Row(standing.stage)
    try:
        row = _scored(standing)
    except (LookupError, TypeError, ValueError, AttributeError):
        row = Row(CaseStage.DAMAGED)
    if row.stage is CaseStage.DAMAGED:
        return Row(row.stage, "cannot be read; heartlens verify says more")
    return replace(row, words=_words(standing), is_reviewed=standing.is_reviewed)


def _scored(standing: Standing) -> Row:
    """The row of a case with what its report says of the score; one that is behind the edits says none."""
    report = standing.report
    if report is None:
        return Row(standing.stage)
    assessment = report.get("assessment")
    need = Need.ROUTINE if assessment is None else need_of(assessment)  # version 1 had none
    if standing.undecided:
        need = min(need, Need.LESIONS)
    total = report["total"]["agatston"]
    if total is None or not standing.is_current or (assessment is None and standing.undecided):
        return Row(standing.stage, need=need)
    low, high = (total, total) if assessment is None else (assessment["total_low"], assessment["total_high"])
    texts = list(dict.fromkeys(display_agatston(one) for one in (low, high)))
    return Row(standing.stage, score=" to ".join(texts), need=need, span=float(high - low))


def _words(standing: Standing) -> str:
    seal = standing.seal
    if seal.state is SealState.HOLDS:
        assert seal.signature is not None
        return f"by {shown_name(seal.signature.observer)}, {seal.signature.when[:10]}"
    return {
        SealState.ALTERED: "altered after it was signed: look through it",
        SealState.UNVERIFIED: "its signature cannot be verified here",
        SealState.LAPSED: "edited since it was signed",
    }.get(seal.state, "")


class Rows:
    """Rows of a list, read again only where files of a case have changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[Any, Row]] = {}

    def of(self, listed: Listed, *, is_open_here: bool = False) -> Row:
        """How far a case of the list is.

        Parameters
        ----------
        listed
            The case.
        is_open_here
            This server has it open, so that its lock tells nothing.
        """
        folder = listed.folder
        mark = [_mark(folder / name) for name in WATCHED]
        known = self._known.get(folder)
        if known is None or known[0] != mark:
            known = self._known[folder] = (mark, row_of(folder))
        row = known[1]
        if not is_open_here and mark[-1] is not None and row.stage not in (CaseStage.SIGNED, CaseStage.DAMAGED):
            holder = who_holds(folder)
            if holder is not None:
                return replace(row, stage=CaseStage.IN_REVIEW, words=f"open elsewhere: {holder}")
        return row

    def is_signed(self, listed: Listed) -> bool:
        """Whether the case is signed; the most are not, and have no signature to be verified."""
        is_claimed = os.path.lexists(listed.folder / SIGNATURE)
        return is_claimed and self.of(listed, is_open_here=True).stage is CaseStage.SIGNED


def _mark(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None
