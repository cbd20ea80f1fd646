"""Rigid registration of two hearts: shift and turn that bring one scan onto another of the same person.

Least squares on the block means of both scans, coarse to fine (Gauss-Newton with Huber's weights). HU are the same in
every scanner, so that differences of HU themselves are compared. No step draws a random number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from heartlens.anatomy.coarse import CoarseGrid
from heartlens.anatomy.region import HeartRegion

WINDOW_HU = (-200.0, 150.0)
"""What is compared: lung, fat, and blood with muscle. Calcium grows between two scans, and must not pull."""

MARGIN_MM = 8.0
"""Of lung and fat around the heart, whose border holds the alignment; beyond, ribs and liver move otherwise."""

SMOOTHING_MM = (6.0, 3.0, 0.0)
"""Standard deviation on each level."""

HUBER_HU = 40.0
"""Larger differences weigh less: another breath, a plaque, a streak."""

STEPS = 25
STILL_MM = 0.02
"""A step that moves no place of the heart by more ends a level."""

SEARCH_MM = ((-48.0, 49.0, 8.0), (-16.0, 17.0, 16.0), (-16.0, 17.0, 16.0))
"""First, last and step of the starts that are tried along z, y and x around the landmarks."""

STARTS = 3
"""Best starts that are followed down the first level."""

FIRST_POINTS, POINTS = 2000, 8000
"""Places compared on the first level, and on the others; a heart has up to 40,000 blocks."""

ASIDE_MM = (5.0, -5.0, 5.0)
"""How far from the way there the way back begins, so that it has to find its own."""

LEAST_OVERLAP = 0.5
"""Of the places of the first heart, that a start must find inside the second scan."""

MOST_TURN_DEG = 30.0
"""Nobody lies in a scanner so differently that the heart turns further."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the heart of one scan lies in another.

    Parameters
    ----------
    matrix
        (4, 4), LPS mm of the first scan to LPS mm of the second; rigid
    overlap
        Share of the places that were compared, the first heart and `MARGIN_MM` around it in the slice, that the second
        scan shows; 0 to 1.
    correlation
        Of HU within `WINDOW_HU` over that share, -1 to 1.
    inconsistency_mm
        Mean distance between a place of the first heart and where it comes back to after a registration there and
        another one back; an estimate of the error that needs no truth.
    """

    matrix: NDArray[np.float64]
    overlap: float
    correlation: float
    inconsistency_mm: float

    def moved(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(n, 3) places of the first scan in the second, LPS mm."""
        return _apply(self.matrix, np.asarray(lps_mm, np.float64))

    def back(self, lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(n, 3) places of the second scan in the first, LPS mm."""
        return _apply(np.asarray(np.linalg.inv(self.matrix), np.float64), np.asarray(lps_mm, np.float64))

    @property
    def turn_deg(self) -> float:
        """Angle between the two."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.matrix[:3, :3]) - 1) / 2, -1, 1))))


def align_hearts(first: HeartRegion, second: HeartRegion) -> Alignment | None:
    """Shift and turn that bring the heart of one scan onto that of another.

    Parameters
    ----------
    first, second
        Of the two scans.

    Returns
    -------
    Alignment | None
        None where a heart was not found in both, or no shift lets them overlap
    """
    if not (first.in_view and second.in_view):
        return None
    there = _register(first, second)
    if there is None:
        return None
    aside = _shift(np.array(ASIDE_MM)) @ np.linalg.inv(there.matrix)
    back = _register(second, first, [aside])
    if back is None:
        return None
    places = _heart_places(first)
    gap_mm = float(np.linalg.norm(back.moved(there.moved(places)) - places, axis=1).mean())
    return replace(there, inconsistency_mm=gap_mm)


class _Level:
    """One scan at one smoothness: HU and their slope anywhere in it."""

    def __init__(self, grid: CoarseGrid, smoothing_mm: float) -> None:
        hu = np.clip(grid.hu, *WINDOW_HU).astype(np.float32)
        if smoothing_mm:
            hu = ndimage.gaussian_filter(hu, [smoothing_mm / step for step in grid.spacing_mm], mode="nearest")
        self.start = np.array([grid.z_mm[0], grid.y_mm[0], grid.x_mm[0]])
        self.step = np.array(grid.spacing_mm)
        self.shape = np.array(grid.shape)
        self.hu = hu

    @cached_property
    def slopes(self) -> list[NDArray[np.float32]]:
        """(k, j, i) HU per mm along x, along y and along z; of the scan alone in which places are moved."""
        return [
            np.gradient(self.hu, step, axis=axis) if self.hu.shape[axis] > 1 else np.zeros_like(self.hu)
            for axis, step in enumerate(self.step.tolist())
        ][::-1]

    def index(self, lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        return ((lps_mm[:, ::-1] - self.start) / self.step).T

    def inside(self, lps_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
        index = self.index(lps_mm)
        return np.asarray(((index >= 0) & (index <= self.shape[:, None] - 1)).all(axis=0))

    def at(self, lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.map_coordinates(self.hu, self.index(lps_mm), order=1, mode="nearest"), np.float64)

    def slope_at(self, lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        index = self.index(lps_mm)
        parts = [ndimage.map_coordinates(slope, index, order=1, mode="nearest") for slope in self.slopes]
        return np.stack(parts, axis=1).astype(np.float64)


def _register(
    first: HeartRegion, second: HeartRegion, starts: list[NDArray[np.float64]] | None = None
) -> Alignment | None:
    all_places = _places(first)
    center = all_places.mean(axis=0)
    matrices = starts or []
    for number, smoothing_mm in enumerate(SMOOTHING_MM):
        places = _some(all_places, FIRST_POINTS if number == 0 else POINTS)
        still, moving = _Level(first.grid, smoothing_mm), _Level(second.grid, smoothing_mm)
        hu = still.at(places)
        matrices = matrices or _starts(first, second, places, hu, moving)
        if not matrices:
            return None
        refined = [_descend(matrix, places, hu, center, moving) for matrix in matrices]
        matrices = [min(refined, key=lambda one: _cost(_apply(one, places), hu, moving))]
    matrix = matrices[0]
    moved = _apply(matrix, all_places)
    inside = moving.inside(moved)
    if inside.mean() < LEAST_OVERLAP:
        return None
    a, b = still.at(all_places[inside]), moving.at(moved[inside])
    correlation = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    aligned = Alignment(matrix, float(inside.mean()), correlation, 0.0)
    return None if aligned.turn_deg > MOST_TURN_DEG else aligned


def _some(places: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """About so many of the places, evenly; the step is odd, so that it does not follow the rows."""
    step = max(1, round(len(places) / count))
    return places[:: step + (step > 1 and step % 2 == 0)]


def _heart_places(region: HeartRegion) -> NDArray[np.float64]:
    """(n, 3) LPS of the blocks of the heart."""
    k, j, i = np.nonzero(region.heart)
    return np.stack([region.grid.x_mm[i], region.grid.y_mm[j], region.grid.z_mm[k]], axis=1)


def _places(region: HeartRegion) -> NDArray[np.float64]:
    """(n, 3) LPS of the blocks of the heart and of what borders on it in the slice."""
    _, dy, dx = region.grid.spacing_mm
    rows, columns = (max(1, round(MARGIN_MM / step)) for step in (dy, dx))
    near = ndimage.binary_dilation(region.heart, np.ones((1, 2 * rows + 1, 2 * columns + 1)))
    near &= ~region.grid.outside
    k, j, i = np.nonzero(near)
    return np.stack([region.grid.x_mm[i], region.grid.y_mm[j], region.grid.z_mm[k]], axis=1)


def _starts(
    first: HeartRegion,
    second: HeartRegion,
    places: NDArray[np.float64],
    hu: NDArray[np.float64],
    moving: _Level,
) -> list[NDArray[np.float64]]:
    """Shifts from which to go on, the best first: around the roots of the aortas, and around the middles."""
    guesses = [_heart_places(second).mean(axis=0) - _heart_places(first).mean(axis=0)]
    if first.ascending.found.any() and second.ascending.found.any():
        guesses.append(np.array(second.root_mm) - np.array(first.root_mm))
    z, y, x = (np.arange(*reach) for reach in SEARCH_MM)
    offsets = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).reshape(-1, 3)
    tried = sorted(
        (_cost(places + shift, hu, moving), *(float(part) for part in shift))
        for guess in guesses
        for shift in guess + offsets
    )
    return [_shift(np.array(shift)) for cost, *shift in tried[:STARTS] if np.isfinite(cost)]


def _descend(
    matrix: NDArray[np.float64],
    places: NDArray[np.float64],
    hu: NDArray[np.float64],
    center: NDArray[np.float64],
    moving: _Level,
) -> NDArray[np.float64]:
    """Gauss-Newton from one start; a step that makes it worse is halved, and then ends it."""
    cost = _cost(_apply(matrix, places), hu, moving)
    for _ in range(STEPS):
        moved = _apply(matrix, places)
        inside = moving.inside(moved)
        at = moved[inside]
        residual = moving.at(at) - hu[inside]
        weight = np.minimum(1.0, HUBER_HU / np.maximum(np.abs(residual), 1e-9))
        pivot = _apply(matrix, center[None])[0]
        slope = moving.slope_at(at)
        jacobian = np.concatenate([np.cross(at - pivot, slope), slope], axis=1)
        normal = jacobian.T @ (weight[:, None] * jacobian)
        # A thousandth of its own size keeps a heart that is round from spinning.
        normal += 1e-3 * np.diag(np.diag(normal)) + 1e-9 * np.eye(6)
        step = np.linalg.solve(normal, -jacobian.T @ (weight * residual))
        for share in (1.0, 0.5, 0.25, 0.125):
            proposed = _stepped(matrix, share * step, pivot)
            new_cost = _cost(_apply(proposed, places), hu, moving)
            if new_cost < cost:
                break
        else:
            return matrix
        way_mm = float(np.linalg.norm(_apply(proposed, places) - moved, axis=1).max())
        matrix, cost = proposed, new_cost
        if way_mm < STILL_MM:
            break
    return matrix


def _cost(moved: NDArray[np.float64], hu: NDArray[np.float64], moving: _Level) -> float:
    """Mean of Huber's loss where the second scan shows something; infinite where it shows too little of the heart."""
    inside = moving.inside(moved)
    if inside.mean() < LEAST_OVERLAP:
        return float("inf")
    off = np.abs(moving.at(moved[inside]) - hu[inside])
    return float(np.where(off <= HUBER_HU, off**2 / 2, HUBER_HU * (off - HUBER_HU / 2)).mean())


def _apply(matrix: NDArray[np.float64], lps_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    return lps_mm @ matrix[:3, :3].T + matrix[:3, 3]


def _shift(shift_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = shift_mm
    return matrix


def _stepped(matrix: NDArray[np.float64], step: NDArray[np.float64], pivot: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix followed by a turn about a place, (3,) rotation vector, and a shift, (3,)."""
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    more = np.eye(4)
    more[:3, :3] = turn
    more[:3, 3] = pivot - turn @ pivot + step[3:]
    return more @ matrix
