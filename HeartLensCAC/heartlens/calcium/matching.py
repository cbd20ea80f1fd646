"""Which lesions of two scans are the same plaque, once both lie in one space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
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
    groups = []
    for mine, theirs in joined_groups(joined):
        gaps = gap[np.ix_(mine, theirs)]
        groups.append(
            MatchedLesions(
                tuple(ids[0][n] for n in mine),
                tuple(ids[1][n] for n in theirs),
                float(gaps.min()) if gaps.size else None,
            )
        )
    return tuple(groups)


def joined_groups(joined: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Rows and columns that hang together, each in one group.

    Parameters
    ----------
    joined
        (m, n) whether a row and a column belong together

    Returns
    -------
    list[tuple[list[int], list[int]]]
        Rows and columns of each group, ascending; in the order of the first row, and columns without a row at the end.

    Examples
    --------
    >>> joined_groups(np.array([[True, True, False], [False, True, False]]))
    [([0, 1], [0, 1]), ([], [2])]
    """
    m, n = joined.shape
    rows, columns = np.nonzero(joined)
    links = coo_matrix((np.ones(rows.size), (rows, m + columns)), shape=(m + n, m + n))
    count, group = connected_components(links, directed=False)
    members = [np.flatnonzero(group == one).tolist() for one in range(count)]
    return [([x for x in some if x < m], [x - m for x in some if x >= m]) for some in sorted(members)]
