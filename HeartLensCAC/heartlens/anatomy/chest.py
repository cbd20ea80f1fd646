"""The chest around the heart: lungs, spine and windpipe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.coarse import CoarseGrid

AIR_BELOW_HU = -260.0
"""Between lung (-950, congested -400) and fat (-100, at worst -160)."""

ROOM_AIR_BELOW_HU = -930.0
"""More than half of a region of room air lies below; of a lung, its vessels included, less does."""

WIDER_THAN_LUNGS_MM = 300.0
"""Both lungs are at most this wide: a field of view beyond it does not cut them."""

WINDPIPE_BELOW_HU = -915.0
"""Block means in the windpipe; the lung beside it, behind a wall thinner than a block, is denser."""

BONE_ABOVE_HU = 170.0
"""Block means this high are bone or contrast; calcium in a coronary artery is too small to reach it."""

LEAST_LUNG_MM2 = 300.0
LEAST_CHEST_MM2 = 6000.0
"""Hull of both lungs in one slice."""

LEAST_LUNG_SHARE = 0.25
"""Of the hull around both lungs, where the chest is. Beside the liver the lungs are thin crescents."""


UNSEEN_SPINE_MM = 5.0
"""A cropped field of view that shows no spine ends a little in front of it."""


@dataclass(frozen=True, eq=False)
class Chest:
    """What surrounds the heart, on a `CoarseGrid`.

    Parameters
    ----------
    lung
        (K, J, I) aerated lung and airways
    hull
        (K, J, I) convex hull of `lung` in each slice
    slices
        (K,) where lung fills a good part of its hull
    spine_x_mm
        LPS x of the middle of the vertebral bodies; the middle of the lungs when no spine is seen
    spine_y_mm
        (K,) LPS y of the front of the vertebral bodies; just behind the image when no spine is seen
    carina_z_mm
        LPS z where the windpipe divides; None when the scan does not show it
    """

    lung: NDArray[np.bool_]
    hull: NDArray[np.bool_]
    slices: NDArray[np.bool_]
    spine_x_mm: float
    spine_y_mm: NDArray[np.float64]
    carina_z_mm: float | None


def find_chest(grid: CoarseGrid) -> Chest:
    """Lungs, spine and windpipe, as far as the scan shows them."""
    lung = _lungs(grid)
    hull = np.stack([fill_hull(part) for part in lung])
    lung_count, hull_count = lung.sum(axis=(1, 2)), hull.sum(axis=(1, 2))
    slices = (lung_count > LEAST_LUNG_SHARE * hull_count) & (hull_count * grid.pixel_mm2 > LEAST_CHEST_MM2)
    spine_x, spine_y = _spine(grid, lung, slices)
    # Without the spine as a guide, a main bronchus would pass for the windpipe.
    is_seen = bool((spine_y < grid.y_mm[-1]).any())
    return Chest(lung, hull, slices, spine_x, spine_y, _carina(grid, spine_x, spine_y) if is_seen else None)


def fill_hull(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of a 2-D mask, rows filled from border to border.

    Examples
    --------
    >>> fill_hull(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], bool)).astype(int)
    array([[1, 1, 1],
           [1, 1, 0],
           [1, 0, 0]])
    """
    filled = np.zeros_like(mask)
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return filled
    every = np.arange(rows[0], rows[-1] + 1)
    left = _lower_envelope(rows, mask[rows].argmax(axis=1), every)
    right = mask.shape[1] - 1 - _lower_envelope(rows, mask[rows, ::-1].argmax(axis=1), every)
    columns = np.arange(mask.shape[1])
    filled[every] = (columns >= np.floor(left)[:, None]) & (columns <= np.ceil(right)[:, None])
    return filled


def _lower_envelope(x: NDArray, y: NDArray, at: NDArray) -> NDArray[np.float64]:
    """Lower convex hull of points sorted by x, read at other x."""
    hull: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2], hull[-1]
            if (y1 - y0) * (point[0] - x1) < (point[1] - y1) * (x1 - x0):
                break
            hull.pop()
        hull.append(point)
    corner_x, corner_y = zip(*hull, strict=True)
    return np.interp(at, corner_x, corner_y)


def _lungs(grid: CoarseGrid) -> NDArray[np.bool_]:
    """Air inside the body: what is not room air, which reaches the end of the image.

    So does lung in a cropped field of view, where room air is told by being emptier.
    """
    is_wide = grid.shape[2] * grid.spacing_mm[2] > WIDER_THAN_LUNGS_MM
    lung = np.zeros(grid.shape, bool)
    rim = ndimage.binary_dilation(grid.outside) & ~grid.outside
    rim[[0, -1]] = rim[:, [0, -1]] = True
    for k, part in enumerate(grid.hu):
        labels, n = ndimage.label((part < AIR_BELOW_HU) & ~grid.outside)
        size = np.bincount(labels.ravel(), minlength=n + 1)
        empty = np.bincount(labels[part < ROOM_AIR_BELOW_HU], minlength=n + 1)
        at_end = np.zeros(n + 1, bool)
        at_end[labels[rim]] = True
        keep = ~(at_end & (is_wide | (empty > 0.5 * size))) & (size * grid.pixel_mm2 > LEAST_LUNG_MM2)
        keep[0] = False
        lung[k] = keep[labels]
    return lung


def _spine(grid: CoarseGrid, lung: NDArray[np.bool_], slices: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    """Middle (x) and front (y, per slice) of the vertebral bodies.

    The spine is the bone that stays in one place from slice to slice behind the middle of the lungs; ribs wander.
    """
    dz, dy, dx = grid.spacing_mm
    nowhere = np.full(grid.shape[0], grid.y_mm[-1] + UNSEEN_SPINE_MM)
    lung_in_any_slice = np.any(lung[slices], axis=0)
    if not lung_in_any_slice.any():
        return float(grid.x_mm.mean()), nowhere
    rows, columns = np.flatnonzero(lung_in_any_slice.any(axis=1)), np.flatnonzero(lung_in_any_slice.any(axis=0))
    middle_x = float(grid.x_mm[columns[[0, -1]]].mean())
    behind = grid.y_mm > grid.y_mm[rows[[0, -1]]].mean()
    near = np.abs(grid.x_mm - middle_x) < 60
    bone = (grid.hu > BONE_ABOVE_HU) & behind[:, None] & near
    density = ndimage.gaussian_filter(bone[slices].mean(axis=0), (13 / dy, 13 / dx))
    if density.max() < 0.05:
        return middle_x, nowhere
    row, column = np.unravel_index(int(density.argmax()), density.shape)
    spine_x = float(grid.x_mm[column])

    is_bone = bone[:, :, np.abs(grid.x_mm - spine_x) < 12].mean(axis=2) > 0.3
    gap = max(2, round(10 / dy))
    front = np.full(grid.shape[0], np.nan)
    for k in np.flatnonzero(slices):  # forward from the densest row until no bone follows within 10 mm
        at = int(row)
        while (ahead := np.flatnonzero(is_bone[k, max(0, at - gap) : at])).size:
            at = max(0, at - gap) + int(ahead[0])
            front[k] = grid.y_mm[at]
    known = np.flatnonzero(np.isfinite(front))
    if not known.size:
        return spine_x, np.full(grid.shape[0], grid.y_mm[row] - 20)
    # Cancellous bone can be missed, never bone in front of the spine: trust the most forward quarter of 60 mm.
    window = max(1, min(round(60 / dz), known.size))
    smooth = ndimage.percentile_filter(front[known], 25, size=window, mode="nearest")
    return spine_x, np.interp(np.arange(grid.shape[0]), known, smooth)


def _carina(grid: CoarseGrid, spine_x: float, spine_y: NDArray[np.float64]) -> float | None:
    """Lowest level of the windpipe: the slice above the one where its single round air space becomes two."""
    dz, _, dx = grid.spacing_mm
    alone = np.zeros(grid.shape[0], bool)
    columns = np.flatnonzero(np.abs(grid.x_mm - spine_x) < 45)
    for k, part in enumerate(grid.hu):
        rows = np.flatnonzero((grid.y_mm < spine_y[k]) & (grid.y_mm > spine_y[k] - 65))
        if not rows.size or not columns.size:
            continue
        inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        labels, _ = ndimage.label((part[inside] < WINDPIPE_BELOW_HU) & ~grid.outside[inside])
        airways = 0
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            area_mm2 = int((labels[box] == index).sum()) * grid.pixel_mm2
            width_mm = (box[1].stop - box[1].start) * dx
            x = grid.x_mm[columns[0]] + dx * (box[1].start + box[1].stop - 1) / 2
            airways += 60 < area_mm2 < 600 and width_mm < 29 and abs(x - spine_x) < 25
        alone[k] = airways == 1
    runs, n = ndimage.label(alone)
    best = max(range(1, n + 1), key=lambda run: int((runs == run).sum()), default=0)
    slices = np.flatnonzero(runs == best) if best else np.zeros(0, int)
    if slices.size * dz < 25 or slices[0] == 0:
        return None
    return float(grid.z_mm[slices[0]])
