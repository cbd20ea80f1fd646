"""Which coronary artery runs where: expected courses relative to the aortic root.

Positions are of an average adult heart (LPS directions, mm, from the middle of the aortic root at the level of the left
main artery), from axial anatomy, rounded between it and the mean of phantoms: the left main leaves the root to the left
and a little back; the LAD passes to the front between pulmonary trunk and left appendage and runs down the anterior
groove to the apex; the LCX turns back into the left atrioventricular groove; the RCA leaves to the front and right and
follows the right atrioventricular groove down and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from heartlens.core.lesions import Artery

COURSES_MM: Mapping[Artery, NDArray[np.float64]] = MappingProxyType(
    {
        Artery.LM: np.array([(15, 5, 4), (19, 3, 4), (23, 1, 3), (27, 0, 2)], float),
        Artery.LAD: np.array(
            [
                *((29, -6, 1), (30, -14, 1), (32, -22, -1), (36, -30, -6), (41, -37, -16), (45, -43, -27)),
                *((50, -46, -40), (53, -45, -54), (54, -42, -65)),
                *((37, -2, 2), (44, -7, 0)),  # in wide hearts it runs further to the left before it turns
                *((46, -16, -5), (54, -23, -14), (61, -28, -28)),
            ],
            float,
        ),
        Artery.LCX: np.array(
            [
                *((31, 9, 2), (35, 16, 2), (38, 24, -2), (39, 30, -10), (35, 34, -18), (27, 35, -25), (17, 30, -31)),
                *((53, 22, -14), (60, 15, -28), (62, 10, -40)),
            ],
            float,
        ),
        Artery.RCA: np.array(
            [
                *((-6, -14, 4), (-10, -23, 4), (-14, -31, -2), (-17, -35, -11), (-20, -35, -21), (-24, -30, -30)),
                *((-25, -23, -39), (-21, -14, -46), (-10, -6, -51), (4, -4, -54), (16, -11, -58), (28, -18, -62)),
            ],
            float,
        ),
    }
)
"""Main arteries, then diagonals, marginals and posterior descending branch with the artery that they count for."""

MITRAL_RING_MM = np.array(
    [(4, 18, -33), (10, 20, -33), (17, 23, -31), (23, 24, -26), (28, 17, -22), (28, 23, -18), (30, 15, -11)], float
)
"""The back of the mitral ring, where it calcifies; relative to the root as the courses are."""

SPREAD_MM = MappingProxyType({Artery.LM: 6.0, Artery.LAD: 8.0, Artery.LCX: 8.0, Artery.RCA: 10.0})
"""Standard deviation of the courses between people, and of the root's place, near the root."""

SPREAD_GROWTH = 0.07
"""What it grows by with each mm of distance from the root."""


def artery_likelihood(offset_mm: NDArray[np.float64], *, level_known: bool = True) -> dict[Artery, NDArray[np.float64]]:
    """How well places fit the course of each artery.

    Parameters
    ----------
    offset_mm
        (n, 3) from the aortic root
    level_known
        False compares places within the slice only (a scan too short to show how high it lies)

    Returns
    -------
    dict[Artery, NDArray[np.float64]]
        (n,) for each artery: the largest Gaussian density along its course, in mm^-2, so that it can be compared
    """
    out = {}
    axes = 3 if level_known else 2
    for artery, course in COURSES_MM.items():
        spread = SPREAD_MM[artery] + SPREAD_GROWTH * np.linalg.norm(course, axis=1)
        gap = np.linalg.norm(offset_mm[:, None, :axes] - course[None, :, :axes], axis=2)
        out[artery] = (np.exp(-0.5 * (gap / spread) ** 2) / spread**2).max(axis=1)
    return out


def course_fit(offset_mm: NDArray[np.float64], artery: Artery, *, level_known: bool = True) -> NDArray[np.float64]:
    """(n,) distance to the course of an artery in standard deviations, as -d^2 / 2: 0 on the course."""
    course = COURSES_MM[artery]
    axes = 3 if level_known else 2
    spread = SPREAD_MM[artery] + SPREAD_GROWTH * np.linalg.norm(course, axis=1)
    gap = np.linalg.norm(offset_mm[:, None, :axes] - course[None, :, :axes], axis=2)
    return (-0.5 * (gap / spread) ** 2).max(axis=1)
