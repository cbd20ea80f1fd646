"""A simulated reader: makes a scored case what the truth says, by edits as a person makes them, and errs at a rate.

What is asked of the reader is each lesion of the program's list that is coronary by the truth, or that the program
calls so, or left undecided; and each island of coronary calcium that counts and is in no lesion of the list. Of one
that the reader is not wrong about, every voxel becomes what the truth says: its artery, or not coronary. An error is:

- a listed coronary lesion is given, whole, to an artery that it is not in, or as often called not coronary;
- a listed lesion that is not coronary is given to an artery, each as often;
- one that the program missed stays missed.

All other lesions of the list lie elsewhere and for certain; the reader leaves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.app.review_session import ReviewSession
from heartlens.core.components import label_components
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap
from heartlens.scoring.counted import scored_voxels

OBSERVER, ORGANIZATION = "Reader^Simulated", "Simulated site"

CALLED_OTHER = 0.5
"""Of the errors on a listed coronary lesion, the share that calls it not coronary."""


class Reading(NamedTuple):
    """What a reader did with one case.

    Parameters
    ----------
    listed
        Lesions of the program's list that were asked about.
    missed
        Islands that the program missed.
    changed
        Of `listed`, those that are something else now, in whole or in part.
    painted
        Of `missed`, those that are lesions now.
    errors
        Of both, those that the reader was wrong about.
    """

    listed: int
    missed: int
    changed: int
    painted: int
    errors: int


def read_as_truth(
    session: ReviewSession, truth: NDArray[np.uint8], error_rate: float, rng: np.random.Generator
) -> Reading:
    """Correct an open case until it says what the truth says, but for errors; every edit is kept as a person's is.

    Parameters
    ----------
    session
        Of the case; nothing was edited yet.
    truth
        (k, j, i) `Artery` codes of the scan, 0 where no deposit is
    error_rate
        Probability of an error for each lesion that is asked about.
    rng
        Draws errors, in the order of the list and then of the missed islands.

    Raises
    ------
    InputRefused
        ``grid``: the truth is not on the grid of the scores
    """
    case = session.case
    if truth.shape != case.ct.shape:
        raise InputRefused(
            "grid", f"expected a truth of shape {case.ct.shape}, found {truth.shape}; score without slabs"
        )
    answers = np.where(np.isin(truth, CORONARY), truth, int(Artery.OTHER)).astype(np.uint8).reshape(-1)
    voxels, listed, changed, errors = case.lesions.voxels, 0, 0, 0
    for lesion in sorted(case.lesions.arteries):
        flat = voxels.flat[voxels.ids == lesion]
        codes, called = answers[flat], case.lesions.arteries[lesion]
        if not _is_asked(codes, called, undecided=case.lesions.notes[lesion].undecided):
            continue
        listed += 1
        if rng.random() < error_rate:
            codes, errors = np.full_like(codes, int(_wrong(codes, rng))), errors + 1
        changed += bool((codes != int(called)).any())
        now = session.case.lesions.voxels  # a part that was painted may have taken in the lesion that it touches
        if (codes == codes[0]).all() and np.array_equal(now.flat[now.ids == lesion], flat):
            session.assign(lesion, Artery(int(codes[0])))
        else:
            session.relabel(flat, codes)
    missed = painted = 0
    for flat, artery in missed_islands(session, truth):
        missed += 1
        if rng.random() < error_rate:
            errors += 1
            continue
        session.relabel(flat, np.full(flat.size, int(artery), np.uint8))
        painted += 1
    for lesion in session.case.assessment.undecided:  # what is left of one that a part was cut from
        session.assign(lesion, session.case.lesions.arteries[lesion])
    return Reading(listed, missed, changed, painted, errors)


def _is_asked(codes: NDArray[np.uint8], called: Artery, *, undecided: bool) -> bool:
    return undecided or called in SCORED_ARTERIES or bool((codes != int(Artery.OTHER)).any())


def _wrong(codes: NDArray[np.uint8], rng: np.random.Generator) -> Artery:
    """Something that no voxel of a lesion is."""
    is_there = set(codes.tolist())
    arteries = [artery for artery in CORONARY if int(artery) not in is_there]
    if int(Artery.OTHER) not in is_there and (not arteries or rng.random() < CALLED_OTHER):
        return Artery.OTHER
    return arteries[int(rng.integers(len(arteries)))]


def missed_islands(session: ReviewSession, truth: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], Artery]]:
    """Coronary calcium that counts and is in no lesion of a case, island by island of one artery.

    Parameters
    ----------
    session
        Of the case.
    truth
        (k, j, i) `Artery` codes of the scan

    Yields
    ------
    flat : NDArray[np.int64]
        (n,) C-order indices of its voxels
    artery : Artery
        Which.
    """
    case = session.case
    coronary = np.where(np.isin(truth, CORONARY), truth, 0).astype(np.uint16)
    names = {int(code): Artery(int(code)) for code in np.unique(coronary) if code}
    codes = scored_voxels(case.ct, LesionMap(coronary, names), case.protocol).reshape(-1)
    flat = np.flatnonzero(codes)
    flat = flat[case.lesions.ids_at(flat) == 0]
    island = label_components(flat, case.ct.shape, connectivity=26, group=codes[flat])
    for number in range(int(island.max(initial=-1)) + 1):
        of = flat[island == number]
        yield of, Artery(int(codes[of[0]]))
