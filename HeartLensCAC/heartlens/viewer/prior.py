"""An earlier scan of the person beside a case: what `heartlens progress` says, and where each place lies in both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy.alignment.rigid import Alignment
from heartlens.app.comparing import check_days
from heartlens.case.case import Case
from heartlens.case.comparison.matched import LesionChange
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.case.comparison.persons import check_same_person
from heartlens.case.comparison.progress import SAME_PLACE, Progress, check_two_scans, compare_scans
from heartlens.case.comparison.words import progress_lines
from heartlens.scoring.report import display_agatston
from heartlens.viewer.state import LETTERS, brightest_voxels, geometry_of, label_runs, slices_of

Matrix = NDArray[np.float64]


class Prior:
    """One earlier scan, opened when it is first asked for; nobody edits it here.

    Parameters
    ----------
    place
        Its case or report folder.
    days
        Of the prior and the current scan, where the user says them.
    same_person
        The user says that both are of one person though their headers differ.
    """

    def __init__(
        self, place: Path, *, days: tuple[date | None, date | None] = (None, None), same_person: bool = False
    ) -> None:
        self._place, self._days, self._same_person = place, days, same_person
        self._lock = threading.Lock()
        self._prior: OpenedCase | None = None
        self._alignment: Alignment | None = None

    @property
    def place(self) -> Path:
        """Of its case."""
        return self._place

    def check(self, current: OpenedCase) -> tuple[str, ...]:
        """Refuse what `heartlens progress` refuses, and give what a reader must know of whose the scans are.

        A day that was said and is not the header's is refused as a wrong command line.

        Parameters
        ----------
        current
            The later scan.

        Raises
        ------
        InputRefused
            ``input``: it is another person's, the same scan, or the later one; or it cannot be opened.
        """
        prior = self._opened()
        check_days(self._days, (prior, current))
        notes = check_same_person(prior, current, asserted=self._same_person)
        check_two_scans(prior, current, self._days)
        return notes

    def beside(self, current: OpenedCase) -> dict[str, Any]:
        """What a page shows of the earlier scan, and of the change to the later one as it is now.

        Parameters
        ----------
        current
            The later scan.

        Raises
        ------
        InputRefused
            As for `check`; or one of both shows no heart.
        """
        notes = self.check(current)
        prior = self._opened()
        with self._lock:  # the hearts are laid on each other once: an edit moves none
            progress = compare_scans(prior, current, dates=self._days, notes=notes, alignment=self._alignment)
            self._alignment = progress.alignment
        case = prior.case
        undecided = [lesion for lesion, note in case.lesions.notes.items() if note.undecided]
        return {
            "version": len(current.case.edits),
            "lines": list(progress_lines(progress)),
            "changes": _change_rows(prior.case, current.case, progress),
            "to_prior": index_map(prior.case, current.case, progress.alignment),
            "scan": geometry_of(case),
            "day": None if progress.dates[0] is None else progress.dates[0].isoformat(),
            "state_words": prior.state_words,
            "arteries": {str(lesion): artery.name for lesion, artery in case.lesions.arteries.items()},
            "undecided": undecided,
            "runs": label_runs(case),
        }

    def slices(self) -> Iterator[bytes]:
        """Give every scored slice of the earlier scan, from the feet to the head.

        Yields
        ------
        bytes
            Of one slice, row by row, little-endian.
        """
        return slices_of(self._opened().case, 0)

    def _opened(self) -> OpenedCase:
        with self._lock:
            if self._prior is None:
                self._prior = open_case(self._place)
            return self._prior


def index_map(prior: Case, current: Case, alignment: Alignment | None) -> list[list[float]] | None:
    """From a voxel of the later scan to the same place of the heart in the earlier one; None where it is not known.

    Parameters
    ----------
    prior, current
        The two scans.
    alignment
        Brings the first onto the second.

    Returns
    -------
    list[list[float]] | None
        (3, 4): three rows that give k, j and i from (k, j, i, 1)
    """
    if alignment is None or alignment.correlation < SAME_PLACE:
        return None
    back = np.linalg.inv(prior.ct.affine) @ np.linalg.inv(alignment.matrix) @ current.ct.affine  # (i, j, k, 1) to it
    reversed_axes: Matrix = back[[2, 1, 0]][:, [2, 1, 0, 3]]
    return [[float(x) for x in row] for row in reversed_axes]


def _change_rows(prior: Case, current: Case, progress: Progress) -> list[dict[str, Any]]:
    """Each lesion of both scans, the greatest change first."""
    lesions = sorted(progress.lesions or (), key=lambda one: -abs(one.agatston_current - one.agatston_prior))
    places = brightest_voxels(prior), brightest_voxels(current)
    return [_change_row(one, places, prior, current, progress.alignment) for one in lesions]


def _change_row(
    one: LesionChange,
    places: tuple[dict[int, tuple[int, int, int]], dict[int, tuple[int, int, int]]],
    prior: Case,
    current: Case,
    alignment: Alignment | None,
) -> dict[str, Any]:
    kji = None
    if one.current:
        kji = list(places[1][one.current[0]])
    elif alignment is not None:  # where it would lie now
        there = current.ct.index_kji(alignment.moved(prior.ct.lps_mm([places[0][one.prior[0]]])))[0]
        inside = all(-0.5 <= x <= n - 0.5 for x, n in zip(there, current.ct.shape, strict=True))
        kji = [round(float(x)) for x in there] if inside else None
    return {
        "kind": one.kind,
        "arteries": [LETTERS_BY_NAME[name] for name in one.arteries],
        "prior": list(one.prior),
        "current": list(one.current),
        "agatston": [
            display_agatston(score) if ids else "–"
            for score, ids in ((one.agatston_prior, one.prior), (one.agatston_current, one.current))
        ],
        "undecided": one.undecided,
        "kji": kji,
    }


LETTERS_BY_NAME = {artery.name: letters for artery, letters in LETTERS.items()}
"""What stands for an artery on the page."""
