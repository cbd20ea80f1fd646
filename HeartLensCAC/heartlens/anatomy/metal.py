"""Wires, clips and valves: where nothing near can be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.region import HeartRegion
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume

METAL_HU = 2600.0
"""Calcified plaque averaged over a slice of 2 mm and more stays below this; wires and clips saturate."""

SUSPECT_HU = 1500.0
"""Above this, dark streaks tell metal from dense plaque."""

STREAK_HU = -200.0
"""Nothing in the heart is darker than fat, but the shadow of metal."""

LEAST_STREAK_SHARE = 0.02
STREAK_MM = 15.0


DENSE_HU = 500.0
"""Islands above this are judged by their shape: at it, the blur of a bright voxel is left out."""

COMPACT_MM2 = 14.0
"""Largest area on a slice of a clip or marker seen from any side; plaque of such a peak is larger."""

CLIP_HU = 1500.0
FEWEST_CLIPS = 3
"""So many compact islands of this peak are no plaque: a bypass has 4 to 12 clips."""

ALIKE_HU = 700.0
FEWEST_ALIKE = 5
ALIKE_SPREAD = 0.25
"""Relative deviation of the peaks, and of the areas, of things that were made alike."""

ONE_MATERIAL = 1.12
"""Highest peak over lowest of things of one material and size: clips along a graft, two of which may touch."""

MOST_ALIKE = 0.7
"""Share of all compact islands that such things make up; plaques have peaks of every height."""


def find_clips(ct: CTVolume, region: HeartRegion) -> NDArray[np.int64]:
    """C-order indices of the voxels of clips and markers that do not saturate, known by their shape and company.

    One small dense island may be plaque, several alike are not. Empty when there are too few, and without a heart.
    """
    if not region.in_view:
        return np.zeros(0, np.int64)
    box = region.box(ct, margin_mm=8)
    islands, _ = ndimage.label(ct.hu[box] > DENSE_HU, np.ones((3, 3, 3)))
    chosen: list[tuple[NDArray[np.int64], float, float]] = []
    for index, part in enumerate(ndimage.find_objects(islands), start=1):
        mask = islands[part] == index
        area_mm2 = float(mask.sum(axis=(1, 2)).max()) * ct.pixel_area_mm2
        if area_mm2 > COMPACT_MM2:
            continue
        start = [axis.start + inner.start for axis, inner in zip(box, part, strict=True)]
        flat = np.ravel_multi_index(tuple((np.argwhere(mask) + start).T), ct.shape)
        peak_hu = float(ct.hu.reshape(-1)[flat].max())
        if peak_hu > ALIKE_HU:
            chosen.append((flat, peak_hu, area_mm2))
    bright = [flat for flat, peak_hu, _ in chosen if peak_hu > CLIP_HU]
    if len(bright) >= FEWEST_CLIPS:
        return np.concatenate([flat for flat, *_ in chosen])
    if len(chosen) >= FEWEST_ALIKE:
        peaks, areas = (np.array(values) for values in list(zip(*chosen, strict=True))[1:])
        is_alike = max(np.std(values) / np.mean(values) for values in (peaks, areas)) < ALIKE_SPREAD
        if is_alike or _of_one_material(np.sort(peaks)):
            return np.concatenate([flat for flat, *_ in chosen])
    return np.zeros(0, np.int64)


def _of_one_material(peaks: NDArray[np.float64]) -> bool:
    """Whether most of the ascending peaks, and enough of them, are nearly the same."""
    above = np.searchsorted(peaks, peaks * ONE_MATERIAL, side="right")
    most = int((above - np.arange(peaks.size)).max())
    return most >= max(FEWEST_ALIKE, MOST_ALIKE * peaks.size)


def find_metal(ct: CTVolume, region: HeartRegion) -> NDArray[np.int64]:
    """(n, 3) slice, row, column of the brightest voxel of each piece of metal on each slice, near the heart."""
    box = region.box(ct, margin_mm=8)
    suspects = np.argwhere(ct.hu[box] > SUSPECT_HU) + [axis.start for axis in box]
    if not suspects.size:
        return np.zeros((0, 3), np.int64)
    flat = np.ravel_multi_index(tuple(suspects.T), ct.shape)
    hu = ct.hu.reshape(-1)[flat]
    island = label_components(flat, ct.shape, connectivity=8)
    order = np.lexsort((-hu, island))
    brightest = order[np.unique(island[order], return_index=True)[1]]
    parts = []
    for voxel in brightest:
        kji = suspects[voxel]
        in_zone = bool(region.grid.sample(region.zone, kji[None])[0])
        if hu[voxel] > METAL_HU or (in_zone and streak_share(ct, region, kji) > LEAST_STREAK_SHARE):
            parts.append(kji)
    return np.array(parts, np.int64).reshape(-1, 3)


def streak_share(ct: CTVolume, region: HeartRegion, kji: NDArray[np.int64]) -> float:
    """Share of voxels darker than fat within 15 mm in the slice, lung and its border left out."""
    _, dy, dx = ct.spacing_mm
    nj, ni = int(STREAK_MM / dy), int(STREAK_MM / dx)
    rows = np.arange(max(0, kji[1] - nj), min(ct.shape[1], kji[1] + nj + 1))
    columns = np.arange(max(0, kji[2] - ni), min(ct.shape[2], kji[2] + ni + 1))
    place = np.stack(np.broadcast_arrays(kji[0], rows[:, None], columns), axis=-1).reshape(-1, 3)
    solid = ~region.grid.sample(region.near_lung, place)
    value = ct.hu[kji[0]][np.ix_(rows, columns)].reshape(-1)[solid]
    return float((value < STREAK_HU).mean()) if value.size else 0.0
