"""Which lesions of two scans are the same plaque, once both lie in one space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

REACH_MM = 5.0
"""Farther apart, two lesions are two plaques. A choice: the registration errs by half a millimeter on phantoms, an
artery is 2 to 5 mm wide, and what is left of its motion within a gated scan is about as much."""


@dataclass(frozen=True)
class MatchedLesions:
    """Lesions of two scans that are the same plaque, or plaque that has grown together or fallen apart.

    Parameters
    ----------
    first, second
        Ids in each scan; empty where one scan has nothing there.
    gap_mm
        Mean distance from the voxels of the smaller of the two nearest lesions to the other; None without a partner.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    gap_mm: float | None


def match_lesions(
    first: Mapping[int, NDArray[np.float64]],
    second: Mapping[int, NDArray[np.float64]],
    *,
    reach_mm: float = REACH_MM,
) -> tuple[MatchedLesions, ...]:
    """Join each lesion to the nearest one of the other scan within reach, and what is so joined to one group.

    Parameters
    ----------
    first, second
        (n, 3) places of the voxels of each lesion, by its id, mm, both in the space of one scan
    reach_mm
        Mean distance from the voxels of the smaller lesion to the other.

    Returns
    -------
    tuple[MatchedLesions, ...]
        Every lesion of both in one group, in the order of the ids of the first scan, then of the second.

    Examples
    --------
    >>> at = lambda *x: np.array([[x, 0.0, 0.0] for x in x])
    >>> [(m.first, m.second) for m in match_lesions({1: at(0, 1, 2), 2: at(30)}, {7: at(0), 8: at(2), 9: at(60)})]
    [((1,), (7, 8)), ((2,), ()), ((), (9,))]
    """
    gap = np.full((len(first), len(second)), np.inf)
    trees = [[cKDTree(places) for places in scan.values()] for scan in (first, second)]
    for a, places_a in enumerate(first.values()):
        for b, places_b in enumerate(second.values()):
            small, tree = (places_a, trees[1][b]) if len(places_a) <= len(places_b) else (places_b, trees[0][a])
            gap[a, b] = tree.query(small)[0].mean()
    joined = np.zeros(gap.shape, bool)
    if gap.size:
        joined[np.arange(len(first)), gap.argmin(axis=1)] = True
        joined[gap.argmin(axis=0), np.arange(len(second))] = True
        joined &= gap <= reach_mm
    ids = (list(first), list(second))
    open_a, open_b = set(range(len(first))), set(range(len(second)))
    groups = []
    for a in range(len(first)):
        if a not in open_a:
            continue
        mine, theirs = {a}, set(np.flatnonzero(joined[a]).tolist())
        while True:
            more = {int(n) for b in theirs for n in np.flatnonzero(joined[:, b])} | mine
            if more == mine:
                break
            mine = more
            theirs = {int(n) for n in np.flatnonzero(joined[sorted(mine)].any(axis=0))}
        open_a -= mine
        open_b -= theirs
        gaps = gap[np.ix_(sorted(mine), sorted(theirs))]
        groups.append(
            MatchedLesions(
                tuple(ids[0][n] for n in sorted(mine)),
                tuple(ids[1][n] for n in sorted(theirs)),
                float(gaps.min()) if gaps.size else None,
            )
        )
    groups += [MatchedLesions((), (ids[1][b],), None) for b in sorted(open_b)]
    return tuple(groups)
