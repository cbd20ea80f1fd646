"""Calcified plaque on the walls of the coronary arteries, from a grain to a whole vessel, across forks too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from heartlens.core.lesions import Artery
from training.evaluation.second_family.coronaries import STEP_MM, Course

BRANCHES = {
    "left main": 0.09, "anterior descending": 0.37, "circumflex": 0.16, "right": 0.25,
    "diagonal": 0.06, "marginal": 0.04, "posterior descending": 0.03,
}  # fmt: skip
"""How often a plaque lies in each: the LAD first, then the RCA. Schmermund et al., Am J Cardiol 1997, 79:1190."""

SHARE_WITHOUT = 0.2
"""Of persons without coronary calcium."""

BURDEN = (3.0, 2600.0)
"""Range of what is aimed at for the others, roughly in Agatston's units, drawn evenly on a logarithmic scale."""

PLAQUE_HU = (230.0, 1650.0)
"""Of the material; partial volume and blur leave peaks from under 130 to 1,300 HU, as in Agatston 1990 and since."""


@dataclass(frozen=True, eq=False)
class Deposit:
    """Something dense: a union of balls of one material.

    Parameters
    ----------
    kind
        "plaque", or what it is instead.
    artery
        Whose calcium; OTHER for what is not coronary.
    centers
        (n, 3) mm
    radii
        (n,) mm
    hu
        What it adds to the tissue around.
    moves
        With what: an artery's name, "heart", or "" for what stays.
    """

    kind: str
    artery: Artery
    centers: NDArray[np.float64]
    radii: NDArray[np.float64]
    hu: float
    moves: str = ""


def draw_plaques(rng: np.random.Generator, courses: Sequence[Course]) -> list[Deposit]:
    """All plaques of a person; none in a fifth of them."""
    if rng.uniform() < SHARE_WITHOUT:
        return []
    aim = float(np.exp(rng.uniform(*np.log(BURDEN))))
    by_name = {course.name: course for course in courses}
    plaques: list[Deposit] = []
    laid = 0.0
    if aim > 120 and rng.uniform() < 0.3:
        plaques += _across_the_fork(rng, by_name)
        laid += sum(map(rough_score, plaques))
    for _ in range(60):
        if laid > 0.85 * aim:
            break
        course = by_name[str(rng.choice(list(BRANCHES), p=list(BRANCHES.values())))]
        thick, length = _size(rng, course, aim - laid)
        # Calcium lies mostly in the first half of an artery.
        start = rng.beta(1.1, 2.2) * max(course.length_mm - length, 0.5)
        new = plaque(rng, course, start, start + length, thick, around=length > 25 and rng.uniform() < 0.6)
        plaques += new
        laid += sum(map(rough_score, new))
    return plaques


def _size(rng: np.random.Generator, course: Course, left: float) -> tuple[float, float]:
    """Half thickness and length, mm, of a plaque that does not overshoot what is left by much."""
    kind = rng.choice(4, p=(0.42, 0.31, 0.19, 0.08))
    low, high = ((0.8, 3), (3, 10), (10, 32), (0.4 * course.length_mm, 0.95 * course.length_mm))[kind]
    thick = rng.uniform(*((0.55, 1.1), (0.55, 1.25), (0.6, 1.4), (0.7, 1.5))[kind])
    length = rng.uniform(low, high)
    fits = 1.6 * left / (1.7 * np.pi * thick**2)
    if length > fits:
        thick = min(thick, 0.55 + 0.05 * left**0.4)
        length = float(np.clip(fits, 0.6, length))
    return float(thick), float(min(length, 0.95 * course.length_mm))


def rough_score(deposit: Deposit) -> float:
    """What a deposit adds to Agatston's score, within a factor of two, before it is imaged."""
    length = 0.5 * len(deposit.radii)
    return 1.7 * np.pi * float((deposit.radii**2).mean()) * length * min(deposit.hu / 450, 1.2)


def plaque(
    rng: np.random.Generator, course: Course, start_mm: float, end_mm: float, thick_mm: float, *, around: bool = False
) -> list[Deposit]:
    """Calcium on the wall of one artery.

    Parameters
    ----------
    rng
        Draws its side, its unevenness and its density.
    course
        Of the artery.
    start_mm, end_mm
        Along the course.
    thick_mm
        Half of its mean thickness.
    around
        On several sides at once.
    """
    at = np.arange(max(start_mm, 0), min(max(end_mm, start_mm + 0.5), course.length_mm) + 0.25, 0.5)
    index = np.clip(at / STEP_MM, 0, len(course.points) - 1.001)
    n = len(course.points)
    middle = np.stack([np.interp(index, np.arange(n), course.points[:, d]) for d in range(3)], axis=1)
    radius = np.interp(index, np.arange(n), course.radii)
    tangent = np.gradient(course.points, axis=0)[np.rint(index).astype(int)]
    one, two = _across(tangent)
    hu = float(np.exp(rng.uniform(*np.log(PLAQUE_HU))))
    made = []
    for side in range(int(rng.integers(2, 4)) if around else 1):
        turn = rng.uniform(0, 2 * np.pi) + side * 2.0 + np.cumsum(rng.normal(0, 0.12, at.size))
        uneven = gaussian_filter1d(rng.normal(0, 1, at.size + 8), 3.0, mode="wrap")[4:-4] * 2.2
        half = thick_mm * np.clip(1 + 0.45 * uneven, 0.05, 1.7)
        half *= np.clip(np.minimum(np.arange(at.size), np.arange(at.size)[::-1]) / 2 + 0.6, 0, 1) if at.size > 3 else 1
        kept = half > 0.3
        if not kept.any():
            kept[at.size // 2], half[at.size // 2] = True, thick_mm
        off = np.maximum(radius - 0.6 * half, 0.2)[:, None] * (
            np.cos(turn)[:, None] * one + np.sin(turn)[:, None] * two
        )
        moves = {"LM": "LAD"}.get(course.artery.name, course.artery.name)
        made.append(Deposit("plaque", course.artery, (middle + off)[kept], half[kept], hu, moves))
    return made


def _across_the_fork(rng: np.random.Generator, by_name: dict[str, Course]) -> list[Deposit]:
    """One lesion from the left main into the LAD and the LCX."""
    main = by_name["left main"]
    thick = rng.uniform(0.8, 1.5)
    made = plaque(rng, main, rng.uniform(0.1, 0.6) * main.length_mm, main.length_mm, thick, around=True)
    for name, length in (("anterior descending", rng.uniform(6, 30)), ("circumflex", rng.uniform(3, 16))):
        if name == "anterior descending" or rng.uniform() < 0.8:
            made += plaque(rng, by_name[name], 0, length, thick, around=True)
    return made


def chain(points: ArrayLike, step_mm: float = 0.6) -> NDArray[np.float64]:
    """(n, 3) centers of balls along a broken line."""
    points = np.asarray(points, float)
    length = np.append(0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
    at = np.arange(0, max(length[-1], step_mm / 2), step_mm)
    return np.stack([np.interp(at, length, points[:, d]) for d in range(3)], axis=1)


def _across(tangent: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    tangent = tangent / np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    other = np.where(np.abs(tangent[:, 2:]) < 0.8, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    one = np.cross(tangent, other)
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    return one, np.cross(tangent, one)
