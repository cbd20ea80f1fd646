"""Arcs of calcium that share a circle around blood: the wall of the aorta, found without following it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heartlens.core.ct import CTVolume

RADII_MM = np.arange(11.0, 22.0, 1.0)
CENTER_STEP_MM = 2.5
LEAST_WALL_MM2, MOST_WALL_MM2 = 12.0, 1000.0
"""Calcium on a slice with a ring worth looking for; more is bone or contrast."""

WALL_MM = 1.8
"""Calcium this near to the circle belongs to it."""

SECTORS = 24
LEAST_SECTORS, LEAST_SECTORS_OF_ONE_ARC = 7, 10
"""105 degrees of the circle must be calcified in two arcs or more, or 150 in one: an artery follows it for less."""

BLOOD_HU = (-20.0, 110.0)
"""Inside the wall there is blood alone: neither fat nor calcium."""


@dataclass(frozen=True)
class Ring:
    """The wall of a calcified vessel on one slice."""

    k: int
    x_mm: float
    y_mm: float
    radius_mm: float


def find_rings(ct: CTVolume, kji: NDArray[np.int64]) -> list[Ring]:
    """The best circle through the calcium of each slice, where there is one.

    Parameters
    ----------
    ct
        The scan.
    kji
        (n, 3) voxels above the threshold
    """
    rings = []
    for k in np.unique(kji[:, 0]):
        here = ct.lps_mm(kji[kji[:, 0] == k])[:, :2]
        calcium_mm2 = len(here) * ct.pixel_area_mm2
        if LEAST_WALL_MM2 < calcium_mm2 < MOST_WALL_MM2 and (ring := _best_ring(ct, int(k), here)):
            rings.append(ring)
    return rings


def _best_ring(ct: CTVolume, k: int, xy: NDArray[np.float64]) -> Ring | None:
    xy = xy[:: 1 + len(xy) // 200]
    low, high = xy.min(axis=0) - 5, xy.max(axis=0) + 5
    coarse = _best_among(ct, k, xy, _centers(low, high, CENTER_STEP_MM))
    if coarse is None:
        return None
    middle = np.array([coarse.x_mm, coarse.y_mm])
    return _best_among(ct, k, xy, _centers(middle - 2, middle + 2.5, 1.0)) or coarse


def _centers(low: NDArray[np.float64], high: NDArray[np.float64], step_mm: float) -> NDArray[np.float64]:
    x, y = (np.arange(a, b, step_mm) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _best_among(ct: CTVolume, k: int, xy: NDArray[np.float64], centers: NDArray[np.float64]) -> Ring | None:
    """The circle with the most calcified sectors, the calcium nearest to it among equals."""
    offset = xy[None] - centers[:, None]
    distance = np.hypot(offset[..., 0], offset[..., 1])
    sector = ((np.arctan2(offset[..., 1], offset[..., 0]) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    best: tuple[int, float] | None = None
    ring = None
    for radius in RADII_MM:
        on_wall = np.abs(distance - radius) < WALL_MM
        hit = np.zeros((len(centers), SECTORS), bool)
        rows, columns = np.nonzero(on_wall)
        hit[rows, sector[rows, columns]] = True
        count = hit.sum(axis=1)
        arcs = (hit & ~np.roll(hit, 1, axis=1)).sum(axis=1)
        spread = np.where(on_wall, np.abs(distance - radius), 0).sum(axis=1) / np.maximum(on_wall.sum(axis=1), 1)
        inside = (distance < radius - 4).sum(axis=1)
        is_wall = ((count >= LEAST_SECTORS) & (arcs >= 2)) | (count >= LEAST_SECTORS_OF_ONE_ARC)
        for n in np.flatnonzero(is_wall & (inside <= 0.1 * on_wall.sum(axis=1))):
            quality = (int(count[n]), -float(spread[n]))
            if (best is None or quality > best) and _is_blood(ct, k, centers[n], radius - 4):
                best, ring = quality, Ring(k, float(centers[n, 0]), float(centers[n, 1]), float(radius))
    return ring


def _is_blood(ct: CTVolume, k: int, center_mm: NDArray[np.float64], radius_mm: float) -> bool:
    """Whether a disc holds nothing but blood: smoothed over 3 mm, no part is fat or calcium."""
    angle = np.arange(12) * (2 * np.pi / 12)
    points = [(0.0, 0.0), *((r * radius_mm * np.cos(a), r * radius_mm * np.sin(a)) for r in (0.45, 0.9) for a in angle)]
    _, dy, dx = ct.spacing_mm
    z = ct.lps_mm([k, 0, 0])[2]
    index = ct.index_kji(np.array([(center_mm[0] + px, center_mm[1] + py, z) for px, py in points]))
    nj, ni = max(1, round(1.5 / dy)), max(1, round(1.5 / dx))
    for _, j, i in index.round().astype(int):
        part = ct.hu[k, max(0, j - nj) : j + nj + 1, max(0, i - ni) : i + ni + 1]
        if not part.size or not BLOOD_HU[0] < part.mean() < BLOOD_HU[1]:
            return False
    return True
