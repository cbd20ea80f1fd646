"""Where the heart lies in a CT, found from lungs, windpipe, bone and fat, without a network.

Whole-chest and heart-cropped fields of view are both read; what a cropped scan does not show is said, not guessed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.aorta import AorticCourse, find_aorta
from heartlens.anatomy.chest import Chest, find_chest
from heartlens.anatomy.coarse import CoarseGrid, coarse_grid
from heartlens.core.ct import CTVolume

FAT_HU = (-150.0, -20.0)
"""Fat at any tube voltage; blood and heart muscle measure 20 to 70 HU, more with contrast medium."""

LEAST_HEART_MM2 = 2500.0
"""Cross-section between the lungs; a heart has 5000 to 11000 at its middle, the great vessels less than 2500."""

CARINA_TO_TOP_MM = 12.0
"""No coronary artery lies closer below the carina than this: the pulmonary trunk is in between."""

CARINA_TO_APEX_MM = 155.0
"""No coronary artery lies further below the carina than this; hearts are 100 to 125 mm high."""

ROOT_TO_TOP_MM, ROOT_TO_APEX_MM = 12.0, 75.0
"""A scan that reaches so far above and below the aortic root shows all coronary arteries."""

SPINE_TO_HEART_MM = 15.0
"""Esophagus, azygos vein and descending aorta lie between the spine and the back of the heart."""

HEART_REACH_MM = (-75.0, 115.0)
"""The heart lies within this range of x (right, left) from the middle of the spine."""

VESSEL_MM = 10.0
"""Half the width of vessels and folds that are cut off from the heart."""

PERICARDIUM_MM = 15.0
"""Fat around the heart belongs to the zone up to here."""


CORE_MM = 12.0
LEAST_CORE_BLOCKS = 20
"""Of the heart's inside, walls and fat left out."""

LEAST_COVER_MM = 50.0
"""A scan shorter than half a heart does not show where in it it lies."""


@dataclass(frozen=True, eq=False)
class HeartRegion:
    """The heart and its landmarks, as far as the scan shows them.

    Parameters
    ----------
    grid
        Block means that everything was found on; (K, J, I).
    chest
        Lungs, spine, windpipe.
    zone
        (K, J, I) where coronary arteries can be: between the lungs, in front of the spine, at the level of the heart
    heart
        (K, J, I) the largest body of blood and muscle in `zone`, with the fat in its grooves
    ascending, descending
        The aorta.
    root_mm
        LPS of the aortic root at the level of the left main artery, as well as the scan shows it
    blood_hu, noise_hu
        Mean and standard deviation of CT voxels in the blood pool; None when there is no heart.
    in_view
        A heart was found.
    cut_top, cut_bottom
        The scan ends inside the heart.
    field
        "chest" when the lungs are seen from side to side, "heart" when the field of view cuts them
    """

    grid: CoarseGrid
    chest: Chest
    zone: NDArray[np.bool_]
    heart: NDArray[np.bool_]
    ascending: AorticCourse
    descending: AorticCourse
    root_mm: tuple[float, float, float]
    blood_hu: float | None
    noise_hu: float | None
    in_view: bool
    cut_top: bool
    cut_bottom: bool
    field: str

    @property
    def is_short(self) -> bool:
        """Whether the scan covers too little to tell how high in the heart a slice lies."""
        return self.grid.shape[0] * self.grid.spacing_mm[0] < LEAST_COVER_MM

    def box(self, ct: CTVolume, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
        """CT voxels around `zone`, and a margin; empty when there is no zone."""
        return self.grid.ct_box(self.zone, ct, margin_mm)

    @cached_property
    def depth_mm(self) -> NDArray[np.float32]:
        """(K, J, I) distance to the outside of `heart` within the slice; 0 outside."""
        depth = np.zeros(self.grid.shape, np.float32)
        for k in np.flatnonzero(self.heart.any(axis=(1, 2))):
            depth[k] = ndimage.distance_transform_edt(self.heart[k], sampling=self.grid.spacing_mm[1:])
        return depth

    @cached_property
    def core_hu(self) -> float:
        """Most frequent HU of block means deep in the heart; the blood pool's where the heart is too thin for that."""
        core = self.grid.hu[self.depth_mm > CORE_MM]
        if core.size < LEAST_CORE_BLOCKS:
            return math.nan if self.blood_hu is None else self.blood_hu
        count, edges = np.histogram(core, np.arange(-30.0, 605.0, 5.0))
        return float(edges[int(ndimage.gaussian_filter1d(count.astype(float), 2).argmax())] + 2.5)

    @cached_property
    def near_lung(self) -> NDArray[np.bool_]:
        """(K, J, I) lung and the blocks beside it in the slice."""
        return ndimage.binary_dilation(self.chest.lung, np.ones((1, 3, 3)))

    @cached_property
    def slice_frame_mm(self) -> NDArray[np.float64]:
        """(K, 4) right, left (LPS x), front and back (LPS y) of the heart on each slice; NaN where there is none."""
        frame = np.full((self.grid.shape[0], 4), np.nan)
        for k in np.flatnonzero(self.heart.any(axis=(1, 2))):
            columns, rows = np.flatnonzero(self.heart[k].any(axis=0)), np.flatnonzero(self.heart[k].any(axis=1))
            frame[k] = *self.grid.x_mm[columns[[0, -1]]], *self.grid.y_mm[rows[[0, -1]]]
        return frame


def heart_region(ct: CTVolume) -> HeartRegion:
    """Find the heart between the lungs.

    The zone where coronary arteries can be is what lies inside the hull of both lungs, in front of the spine, and,
    when the windpipe shows the carina, 12 to 155 mm below it.
    """
    grid = coarse_grid(ct)
    chest = find_chest(grid)
    between = _between_the_lungs(grid, chest)
    heart = _largest_solid(grid, between)
    area_mm2 = heart.sum(axis=(1, 2)) * grid.pixel_mm2
    in_view = bool(area_mm2.max() > LEAST_HEART_MM2)
    if not in_view:
        heart = np.zeros_like(heart)
    ascending, descending = find_aorta(grid, chest, heart)
    zone = between & _within(heart, grid.spacing_mm, PERICARDIUM_MM)
    # A block that a thin rim of fat shares with lung counts as lung; an artery may run in it.
    zone = ndimage.binary_dilation(zone, np.ones((1, 3, 3))) & chest.hull
    blood, noise = _blood_pool(ct, grid, heart, descending)
    if blood is not None and FAT_HU[0] <= blood <= FAT_HU[1]:  # between the lungs of an abdomen lies fat, not a heart
        in_view, blood, noise = False, None, None
        heart, zone = np.zeros_like(heart), np.zeros_like(zone)
    root = _root(grid, heart, ascending)
    cut_top, cut_bottom = _cut(grid, area_mm2, chest, root, bool(ascending.found.any())) if in_view else (False, False)
    at_side = (chest.lung & ndimage.binary_dilation(grid.outside | _image_border(grid))).any(axis=(1, 2))
    return HeartRegion(
        grid=grid,
        chest=chest,
        zone=zone,
        heart=heart,
        ascending=ascending,
        descending=descending,
        root_mm=root,
        blood_hu=blood,
        noise_hu=noise,
        in_view=in_view,
        cut_top=cut_top,
        cut_bottom=cut_bottom,
        field="heart" if chest.slices.any() and at_side[chest.slices].mean() > 0.5 else "chest",
    )


def noise_in_blood_hu(ct: CTVolume, region: HeartRegion) -> float | None:
    """Standard deviation of blood where `HeartRegion.noise_hu` was measured, in another image of the same places.

    Parameters
    ----------
    ct
        Of the grid on which the heart was found: the scan whose softened copy it was found in.
    region
        Of the heart.
    """
    return _blood_pool(ct, region.grid, region.heart, region.descending)[1] if region.in_view else None


def _cut(
    grid: CoarseGrid,
    area_mm2: NDArray[np.float64],
    chest: Chest,
    root: tuple[float, float, float],
    is_root_known: bool,
) -> tuple[bool, bool]:
    """Whether the scan ends inside the heart at its top and at its bottom.

    What lies between the lungs on the last slice may be great vessels or liver: the distance from the root decides,
    where the root was found.
    """
    slices = np.flatnonzero(area_mm2 > LEAST_HEART_MM2)
    at_top = bool(slices[-1] == grid.shape[0] - 1) and chest.carina_z_mm is None
    at_bottom = bool(slices[0] == 0)
    if is_root_known and grid.shape[0] * grid.spacing_mm[0] >= LEAST_COVER_MM:
        at_top &= grid.z_mm[-1] - root[2] < ROOT_TO_TOP_MM
        at_bottom &= root[2] - grid.z_mm[0] < ROOT_TO_APEX_MM
    return at_top, at_bottom


def _between_the_lungs(grid: CoarseGrid, chest: Chest) -> NDArray[np.bool_]:
    between = chest.hull & ~chest.lung & chest.slices[:, None, None]
    between &= grid.y_mm[None, :, None] < chest.spine_y_mm[:, None, None] - SPINE_TO_HEART_MM
    right, left = (chest.spine_x_mm + reach for reach in HEART_REACH_MM)
    between &= (grid.x_mm > right) & (grid.x_mm < left)
    if chest.carina_z_mm is not None:
        below = chest.carina_z_mm - grid.z_mm
        between &= ((below > CARINA_TO_TOP_MM) & (below < CARINA_TO_APEX_MM))[:, None, None]
    return between


def _largest_solid(grid: CoarseGrid, between: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest body between the lungs, after vessels thinner than 20 mm are cut off."""
    solid = between & (grid.hu > -150)
    core = np.zeros_like(solid)
    slices = np.flatnonzero(solid.any(axis=(1, 2)))
    for k in slices:
        core[k] = ndimage.distance_transform_edt(solid[k], sampling=grid.spacing_mm[1:]) > VESSEL_MM
    labels, n = ndimage.label(core)
    if not n:
        return core
    core = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    for k in slices:
        if core[k].any():
            near = ndimage.distance_transform_edt(~core[k], sampling=grid.spacing_mm[1:]) <= VESSEL_MM + 1
            core[k] = solid[k] & near
    return core


def _within(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float], reach_mm: float) -> NDArray[np.bool_]:
    """Everything nearer to a mask than `reach_mm`."""
    near = np.zeros_like(mask)
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return near
    grow = [int(np.ceil(reach_mm / step)) for step in spacing_mm]
    box = tuple(slice(max(0, part.start - n), part.stop + n) for part, n in zip(boxes[0], grow, strict=True))
    near[box] = ndimage.distance_transform_edt(~mask[box], sampling=spacing_mm) < reach_mm
    return near


def _image_border(grid: CoarseGrid) -> NDArray[np.bool_]:
    border = np.zeros(grid.shape[1:], bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    return border


def _root(grid: CoarseGrid, heart: NDArray[np.bool_], ascending: AorticCourse) -> tuple[float, float, float]:
    """The lowest circle of the ascending aorta: below it muscle surrounds the root and its outline is lost."""
    slices = np.flatnonzero(ascending.found)
    if slices.size:
        x, y = ascending.center_mm[slices[:2]].mean(axis=0)
        return float(x), float(y), float(grid.z_mm[slices[0]])
    if not heart.any():
        return float(grid.x_mm.mean()), float(grid.y_mm.mean()), float(grid.z_mm.mean())
    k, j, i = np.nonzero(heart)
    top = float(np.percentile(grid.z_mm[k], 95))
    high = grid.z_mm[k] > top - 40
    return float(grid.x_mm[i[high]].mean()), float(grid.y_mm[j[high]].mean()), top - 25


def _blood_pool(
    ct: CTVolume, grid: CoarseGrid, heart: NDArray[np.bool_], descending: AorticCourse
) -> tuple[float | None, float | None]:
    """Mean and noise of blood: in the descending aorta where it is followed, else in the middle of the heart."""
    in_aorta = np.flatnonzero(descending.found & (descending.support > 0.8))
    slices = in_aorta if in_aorta.size >= min(3, grid.shape[0]) else np.flatnonzero(heart.any(axis=(1, 2)))
    means, deviations = [], []
    for k in slices[np.linspace(0, len(slices) - 1, min(9, len(slices))).astype(int)]:
        if in_aorta.size and k in in_aorta:
            (x, y), reach = descending.center_mm[k], max(4.0, descending.radius_mm[k] - 4)
        else:
            j, i = np.nonzero(heart[k])
            x, y, reach = grid.x_mm[i].mean(), grid.y_mm[j].mean(), 12.0
        row = (y - grid.y_mm[0]) / ct.spacing_mm[1] + (grid.block[1] - 1) / 2
        column = (x - grid.x_mm[0]) / ct.spacing_mm[2] + (grid.block[2] - 1) / 2
        part = ct.hu[min(ct.shape[0] - 1, k * grid.block[0] + grid.block[0] // 2)]
        rows, columns = np.arange(ct.shape[1]), np.arange(ct.shape[2])
        rows = rows[np.abs(rows - row) * ct.spacing_mm[1] < reach]
        columns = columns[np.abs(columns - column) * ct.spacing_mm[2] < reach]
        away = np.hypot((rows[:, None] - row) * ct.spacing_mm[1], (columns - column) * ct.spacing_mm[2])
        blood = part[np.ix_(rows, columns)][away < reach]
        if blood.size > 20:
            means.append(float(np.median(blood)))
            # From quartiles: a plaque or a vessel in the circle is not noise.
            deviations.append(float(np.subtract(*np.percentile(blood, (75, 25)))) / 1.349)
    return (float(np.median(means)), float(np.median(deviations))) if means else (None, None)
