"""Whether a body lies as the file says: spine behind, heart to the left of it, lungs wider above than below.

Volume files are turned, flipped and given other axes on their way between programs, and nothing in them says so. Each
sign is judged alone, and only where the scan shows enough of it; what it does not show is no reason to refuse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.aorta import outline_beside_spine
from heartlens.anatomy.chest import BONE_ABOVE_HU
from heartlens.anatomy.region import HeartRegion

LUNG_HU = (-930.0, -500.0)
"""Lung and not room air, which enters fields of view beside the arms."""

LEAST_COVER_MM = 40.0
"""A shorter scan shows neither how a spine runs nor what changes from its bottom to its top."""

SPINE_MM = 36.0
"""Side of the square in which bone is gathered: a vertebral body with its arch."""

LEAST_SPINE = 0.34
"""Share of that square that bone fills along the spine; the sternum fills 0.1 to 0.32."""

RIVAL_SHARE = 0.75
"""A second column of bone as dense as this, far from the first, leaves open which is the spine."""

SPINE_AWAY_MM = (38.0, 115.0)
"""Distance of the spine from the middle of the lungs; contrast medium in the heart lies nearer."""

ALONG_ANOTHER_AXIS = 1.6
"""Bone in a column along another axis than the slices', compared with theirs, that tells another axis order."""

AORTA_WEIGHT, HEART_MM = 2.0, 12.0
"""How much outline of the descending aorta, per slice, and how many mm of the heart count 1 for its side."""

LEAST_AORTA = 0.3
"""Outline of an aorta, on either side of the spine, without which the heart's side alone says nothing: hearts of 36
upright phantoms lay from 14 mm to the right of the spine to 21 mm to the left."""

CLEARLY_RIGHT = 0.4
"""So much more outline of an aorta to the right than to the left: at most 0.12 in upright scans."""

MIRRORED = -0.8
"""Sum of both signs; 1 to 2.5 in upright scans, -0.6 at the least of phantoms that show an aorta."""

UPSIDE_DOWN = -1.0
"""Sum of two signs, each about 1 in upright scans: toward the head there is more lung in the chest and less heart."""


@dataclass(frozen=True)
class Posture:
    """How a body seems to lie; None is what the scan does not show.

    Parameters
    ----------
    spine_mm
        (x, y) of the spine from the middle of the lungs, LPS
    along_axes
        Largest share that bone fills of a column along slices, rows and columns.
    left
        About 1 to 2 when descending aorta and heart lie left of the spine, as negative when they lie right of it.
    upright
        Near 2 when the head is where the file says, near -2 when it is at the other end.
    """

    spine_mm: tuple[float, float] | None
    along_axes: tuple[float, float, float] | None
    left: float | None
    upright: float | None


def posture(region: HeartRegion) -> Posture:
    """Read the signs that a scan shows of how a body lies."""
    grid, chest = region.grid, region.chest
    slices = np.flatnonzero(chest.slices)
    if slices.size * grid.spacing_mm[0] < LEAST_COVER_MM or slices.size < 5:
        return Posture(None, None, None, None)
    part = slice(int(slices[0]), int(slices[-1]) + 1)
    hu = grid.hu[part]
    lung = (hu > LUNG_HU[0]) & (hu < LUNG_HU[1]) & ~grid.outside & chest.lung[part]
    bone = (hu > BONE_ABOVE_HU) & ~grid.outside
    columns = [_columns_of_bone(bone, axis, grid.spacing_mm) for axis in range(3)]
    along = tuple(float(column.max()) for column in columns)
    spine = _spine(columns[0], lung, region)
    return Posture(spine, (along[0], along[1], along[2]), _left(region), _upright(region, lung, part))


def orientation_finding(region: HeartRegion) -> str | None:
    """What lies elsewhere than the file says, in words for a refusal; None when nothing does, or nothing shows it."""
    found = posture(region)
    wrong = []
    if found.along_axes is not None:
        _, rows, columns = along = found.along_axes
        if max(rows, columns) > max(LEAST_SPINE, ALONG_ANOTHER_AXIS * along[0]):
            wrong.append("the spine runs across the slices' axis: axes have changed places")
    if found.spine_mm is not None and not wrong:
        x, y = found.spine_mm
        if y < -abs(x):
            wrong.append("the spine lies in front of the lungs")
        elif abs(x) > abs(y):
            wrong.append(f"the spine lies to the {'left' if x > 0 else 'right'} of the lungs")
    if found.left is not None and not wrong and found.left < MIRRORED:
        wrong.append("heart and descending aorta lie to the right of the spine")
    if found.upright is not None and found.upright < UPSIDE_DOWN:
        wrong.append("the heart widens and the lungs narrow toward the head")
    if not wrong:
        return None
    return (
        f"{' and '.join(wrong)}: expected spine behind, heart to the left, head at the upper end; the file's "
        "orientation is wrong, and arteries would be named by it: export the CT again, or read the DICOM series"
    )


def _columns_of_bone(bone: NDArray[np.bool_], axis: int, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Share of bone in columns of `SPINE_MM` along an axis."""
    step = [s for n, s in enumerate(spacing_mm) if n != axis]
    mean = bone.mean(axis=axis, dtype=np.float32)
    return ndimage.uniform_filter(mean, [max(1, round(SPINE_MM / s)) for s in step], mode="constant")


def _spine(column: NDArray[np.float32], lung: NDArray[np.bool_], region: HeartRegion) -> tuple[float, float] | None:
    grid = region.grid
    if not lung.any():
        return None
    _, j, i = np.nonzero(lung)
    x, y = float(grid.x_mm[i].mean()), float(grid.y_mm[j].mean())
    row, col = (int(n) for n in np.unravel_index(int(column.argmax()), column.shape))
    away = np.hypot(grid.x_mm - grid.x_mm[col], (grid.y_mm - grid.y_mm[row])[:, None])
    rival = float(np.where(away > 2 * SPINE_MM, column, 0).max())
    dx, dy = float(grid.x_mm[col] - x), float(grid.y_mm[row] - y)
    is_seen = column[row, col] >= LEAST_SPINE and rival < RIVAL_SHARE * column[row, col]
    return (dx, dy) if is_seen and SPINE_AWAY_MM[0] <= np.hypot(dx, dy) <= SPINE_AWAY_MM[1] else None


def _left(region: HeartRegion) -> float | None:
    """The side of the heart, judged against the spine."""
    grid, chest = region.grid, region.chest
    if not region.in_view or not (chest.spine_y_mm < grid.y_mm[-1]).any():
        return None
    area = region.heart.sum(axis=(1, 2))
    _, _, i = np.nonzero(region.heart[area > 0.6 * area.max()])  # ventricles, not the great vessels
    heart = float(grid.x_mm[i].mean() - chest.spine_x_mm) / HEART_MM
    seen = float(np.where(region.descending.found, region.descending.support, 0)[chest.slices].mean())
    if heart > 0 and seen > 0.3:
        return AORTA_WEIGHT * seen + heart  # whatever the other side holds, this is no mirror image
    left, right = outline_beside_spine(grid, chest)
    if max(left, right) < LEAST_AORTA:
        return None
    if right - left > CLEARLY_RIGHT:
        heart = min(heart, 0.0)  # a heart is looked for further to the left than to the right, and found there
    return AORTA_WEIGHT * (left - right) + heart


def _upright(region: HeartRegion, lung: NDArray[np.bool_], part: slice) -> float | None:
    grid = region.grid
    if lung.shape[0] * grid.spacing_mm[0] < 2 * LEAST_COVER_MM:
        return None
    hull = region.chest.hull[part]
    solid = hull & ~region.chest.lung[part] & (grid.hu[part] > -150)
    share = lung.sum(axis=(1, 2)) / np.maximum(hull.sum(axis=(1, 2)), 1)
    area = solid.sum(axis=(1, 2)) * grid.pixel_mm2
    third = max(1, len(share) // 3)
    more_lung = float(share[-third:].mean() - share[:third].mean())
    less_heart = float(np.log((area[:third].mean() + 500) / (area[-third:].mean() + 500)))
    return more_lung / 0.12 + less_heart / 0.7
