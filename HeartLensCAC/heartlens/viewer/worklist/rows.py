"""How far each case of a list is, from its folder alone: no CT is opened, and nothing is held."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heartlens.case.edits import edits_in_force
from heartlens.case.folder import case_in, case_journal, read_json
from heartlens.case.journal import JOURNAL
from heartlens.case.lock import LOCK, who_holds
from heartlens.case.looked_at import VIEWED, LookedAt
from heartlens.case.seal import REPORT, SIGNATURE, Seal, SealState, read_seal
from heartlens.case.signature import shown_name
from heartlens.core.errors import InputRefused
from heartlens.risk.reading_need import Need, need_of
from heartlens.scoring.report import display_agatston
from heartlens.viewer.listed import Listed

WATCHED = ("case.json", REPORT, SIGNATURE, JOURNAL, VIEWED, LOCK)
"""Files by which a row is known to be as it was."""

NOT_BEGUN, DRAFT, IN_REVIEW, READ, SIGNED, ALTERED, DAMAGED = (
    "not begun", "draft", "in review", "read", "signed", "altered", "damaged",
)  # fmt: skip
"""How far a case is: made for nobody yet; read by nobody; begun; edited with nothing left to decide; and so on."""


@dataclass(frozen=True)
class Row:
    """How far one case is.

    Parameters
    ----------
    state
        One of those above.
    words
        What a reader must know of it beside the state; "" for nothing.
    score
        Agatston as the report says it, or the range that it lies in; "" where the report has none, or is behind.
    need
        Why it needs a reader.
    span
        Width of the range, Agatston.
    is_reviewed
        Whether a reader signed it or has an edit in force: then its labels may teach a network.
    """

    state: str
    words: str = ""
    score: str = ""
    need: Need = Need.ROUTINE
    span: float = 0.0
    is_reviewed: bool = False

    @property
    def place(self) -> tuple[int, int, float]:
        """By which rows are ordered: what needs a reader most comes first, and what is signed last."""
        return (self.state in (SIGNED, DAMAGED), self.need, -self.span)


def row_of(folder: Path) -> Row:
    """How far the case of a folder is.

    Parameters
    ----------
    folder
        Of the case, which need not be there yet.
    """
    if case_in(folder) is None:
        return Row(NOT_BEGUN)
    try:
        edits = case_journal(folder).edits
        seal = read_seal(folder, len(edits))
        report = read_json(folder / REPORT)
        row = _of_report(report, is_current=report["edits"] == len(edits))
        is_edited = bool(edits_in_force(edits))
    except (InputRefused, OSError, ValueError, LookupError, TypeError, AttributeError):
        return Row(DAMAGED, "cannot be read; heartlens verify says more")
    if seal.state is SealState.HOLDS:
        return replace(row, state=SIGNED, words=_signer(seal), is_reviewed=True)
    if seal.state is SealState.ALTERED:
        return replace(row, state=ALTERED, words="altered after it was signed: look through it")
    state, words = _unsigned(folder, row, is_begun=bool(edits)), ""
    if seal.state is SealState.UNVERIFIED:
        words = "its signature cannot be verified here"
    elif seal.state is SealState.LAPSED:
        words = "edited since it was signed"
    return replace(row, state=state, words=words, is_reviewed=is_edited)


def _of_report(report: Mapping[str, Any], *, is_current: bool) -> Row:
    assessment = report["assessment"]
    low, high = assessment["total_low"], assessment["total_high"]
    need = need_of(assessment)
    if report["total"]["agatston"] is None or not is_current:
        return Row(DRAFT, need=need)
    texts = list(dict.fromkeys(display_agatston(one) for one in (low, high)))
    return Row(DRAFT, score=" to ".join(texts), need=need, span=float(high - low))


def _unsigned(folder: Path, row: Row, *, is_begun: bool) -> str:
    if is_begun and row.need not in (Need.CATEGORY, Need.LESIONS):
        return READ
    return IN_REVIEW if is_begun or LookedAt(folder).has_begun else DRAFT


def _signer(seal: Seal) -> str:
    assert seal.signature is not None
    return f"by {shown_name(seal.signature.observer)}, {seal.signature.when[:10]}"


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
        if not is_open_here and mark[-1] is not None and row.state not in (SIGNED, DAMAGED):
            holder = who_holds(folder)
            if holder is not None:
                return replace(row, state=IN_REVIEW, words=f"open elsewhere: {holder}")
        return row

    def is_signed(self, listed: Listed) -> bool:
        """Whether the case is signed; the most are not, and have no signature to be verified."""
        return os.path.lexists(listed.folder / SIGNATURE) and self.of(listed, is_open_here=True).state == SIGNED


def _mark(path: Path) -> tuple[int, int, int] | None:
    with suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None
