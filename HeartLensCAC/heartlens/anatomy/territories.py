"""Which coronary artery runs where: expected courses relative to the aortic root.

Positions are of an average adult heart (LPS directions, mm, from the middle of the aortic root at the level of the left
main artery) and are scaled with the heart. They are read off axial anatomy: the left main leaves the root to the left
and a little back; the LAD passes to the front between pulmonary trunk and left appendage and runs down the anterior
groove to the apex; the LCX turns back into the left atrioventricular groove; the RCA leaves to the front and right and
follows the right atrioventricular groove down and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from heartlens.lesions import Artery

COURSES_MM: Mapping[Artery, NDArray[np.float64]] = MappingProxyType(
    {
        Artery.LM: np.array([(15, 5, 3), (20, 5, 3), (26, 4, 2)], float),
        Artery.LAD: np.array(
            [
                (32, 2, 2),
                (36, -8, 0),
                (37, -18, -3),
                (40, -28, -8),
                (43, -37, -18),
                (47, -44, -30),
                (52, -48, -43),
                (55, -48, -57),
                (55, -46, -68),
                (50, -16, -5),
                (58, -23, -15),
                (64, -28, -30),
            ],
            float,
        ),
        Artery.LCX: np.array(
            [
                (33, 12, 1),
                (37, 20, -1),
                (40, 27, -6),
                (41, 32, -14),
                (37, 36, -22),
                (28, 37, -29),
                (18, 33, -36),
                (54, 22, -14),
                (61, 15, -28),
                (63, 10, -42),
            ],
            float,
        ),
        Artery.RCA: np.array(
            [
                (-8, -14, 3),
                (-13, -24, 2),
                (-18, -32, -5),
                (-22, -37, -14),
                (-26, -37, -25),
                (-29, -32, -35),
                (-28, -23, -44),
                (-20, -12, -50),
                (-8, -5, -53),
                (5, -3, -55),
                (15, -10, -58),
                (28, -18, -62),
            ],
            float,
        ),
    }
)
"""Main arteries, then diagonals, marginals and posterior descending branch with the artery that they count for."""

SPREAD_MM = MappingProxyType({Artery.LM: 6.0, Artery.LAD: 9.0, Artery.LCX: 9.0, Artery.RCA: 9.0})
"""Standard deviation of the courses between people, near the root; it grows with the distance from the root."""

SPREAD_GROWTH = 0.10


def artery_likelihood(offset_mm: NDArray[np.float64], *, level_known: bool = True) -> dict[Artery, NDArray[np.float64]]:
    """How well places fit the course of each artery.

    Parameters
    ----------
    offset_mm : (n, 3) from the aortic root, scaled to an average heart
    level_known : False compares places within the slice only (a scan too short to show how high it lies)

    Returns
    -------
    (n,) for each artery: the largest Gaussian density along its course, in mm^-2, so that it can be compared
    """
    out = {}
    axes = 3 if level_known else 2
    for artery, course in COURSES_MM.items():
        spread = SPREAD_MM[artery] + SPREAD_GROWTH * np.linalg.norm(course, axis=1)
        gap = np.linalg.norm(offset_mm[:, None, :axes] - course[None, :, :axes], axis=2)
        out[artery] = (np.exp(-0.5 * (gap / spread) ** 2) / spread**2).max(axis=1)
    return out


def course_distance_mm(offset_mm: NDArray[np.float64], artery: Artery, *, level_known: bool = True) -> NDArray:
    """(n,) distance to the nearest point of an artery's expected course."""
    axes = 3 if level_known else 2
    gap = np.linalg.norm(offset_mm[:, None, :axes] - COURSES_MM[artery][None, :, :axes], axis=2)
    return gap.min(axis=1)
