"""How much a score moves when nothing has changed: the floor below which a change is none."""

from __future__ import annotations

from enum import Enum

import numpy as np

from heartlens.case.case import Case
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import Artery, LesionMap
from heartlens.core.protocol import REFERENCE_INCREMENT_MM
from heartlens.core.slabs import average_slabs, slab_labels
from heartlens.scoring.report import score_lesions

ROOT_VOLUME_FLOOR = 2.5
"""Change of the square root of the volume score (mm3) that scans repeated without any change hardly ever show."""

ROOT_VOLUME_SOURCE = (
    "a difference of 2.5 between square roots: Hokanson et al., AJR 2004, 182:1327, for the volume score "
    "(second-hand); Lee et al., PLoS ONE 2021, 16(4):e0248884, for the calcium score"
)


Range = tuple[float, float]
"""Low and high: without the undecided lesions that are called coronary, and with all that are undecided."""


class Verdict(str, Enum):
    """What a change is."""

    INCREASE = "increase"
    DECREASE = "decrease"
    NONE = "no change beyond measurement noise"
    OPEN = "depends on what is undecided"
    WITHHELD = "withheld"

    def __str__(self) -> str:
        return self.value


def judge_change(change: Range, floor: float, *, is_reached: bool = True) -> Verdict:
    """What a change between two bounds is, above a floor.

    Parameters
    ----------
    change
        The least and the greatest that are possible.
    floor
        Of noise.
    is_reached
        A change as large as the floor is one.

    Examples
    --------
    >>> [judge_change(c, 2.5).name for c in ((2.5, 9.0), (-3.0, -2.6), (-1.0, 2.4), (1.0, 3.0))]
    ['INCREASE', 'DECREASE', 'NONE', 'OPEN']
    """
    low, high = change

    def beyond(one: float) -> bool:
        return one > floor or (is_reached and one >= floor)

    if beyond(low):
        return Verdict.INCREASE
    if beyond(-high):
        return Verdict.DECREASE
    return Verdict.OPEN if beyond(high) or beyond(-low) else Verdict.NONE


def slab_phase_totals(case: Case) -> tuple[float, ...] | None:
    """Agatston totals of slabs of about 3 mm that begin at each of the thin slices in turn.

    A scanner that had started a little lower would have made other slices of the same plaque. Only thin slices can
    tell.

    Parameters
    ----------
    case
        Its lesions keep their arteries; what of them counts is looked for anew in the slabs.

    Returns
    -------
    tuple[float, ...] | None
        One for each slice of a slab; None where two slices make more than a slab
    """
    ct, codes = case.source_ct, case.scored_codes
    count = round(REFERENCE_INCREMENT_MM / ct.increment_mm)
    if count < 2 or ct.shape[0] < 2 * count or case.protocol.normalisation == "thickness":
        return None
    k, j, i = np.nonzero(codes)
    if not k.size:
        return (0.0,) * count
    rows, columns = slice(int(j.min()), int(j.max()) + 1), slice(int(i.min()), int(i.max()) + 1)
    # A slab at each end beyond the calcium, so that every phase has all of it.
    first = min(max(0, int(k.min()) - count), ct.shape[0] - 2 * count)
    last = min(max(int(k.max()) + 2 * count, first + 2 * count), ct.shape[0])
    totals = []
    for phase in range(count):
        slices = slice(first + phase, last)
        affine = np.array(ct.affine)
        affine[:3, 3] = ct.lps_mm([slices.start, rows.start, columns.start])
        part = CTVolume(ct.hu[slices, rows, columns], affine, allow_oblique=ct.allow_oblique)
        labels = slab_labels(codes[slices, rows, columns], count).astype(np.uint16)
        arteries = {int(code): Artery(int(code)) for code in np.unique(labels[labels > 0])}
        scored = score_lesions(average_slabs(part, count), LesionMap(labels, arteries), case.protocol)
        totals.append(scored.total.agatston)
    return tuple(totals)


def slab_phase_floor(*cases: Case) -> float | None:
    """Agatston that two scans may differ by for where their slices began: half the spread of the one and of the other.

    Parameters
    ----------
    *cases
        Both scans.

    Returns
    -------
    float | None
        None where no scan is thin enough to tell; of one that is not, nothing is added
    """
    known = [totals for totals in map(slab_phase_totals, cases) if totals is not None]
    return sum(max(totals) - min(totals) for totals in known) / 2 if known else None
