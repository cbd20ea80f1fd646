"""Where the heart lies in a CT, found from lungs, airway, bone and fat, without a network.

Everything here works on block means of about 3 mm: fast, and less noisy than the scan itself. Whole-chest and
heart-cropped fields of view are both read; what a cropped scan does not show is said, not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from heartlens.anatomy.aorta import AorticCourse, follow_aorta, vote_circles
from heartlens.ct import CTVolume

GRID_MM = 3.0
"""Target edge of a coarse voxel: a coronary groove is 5 to 10 mm wide, a lung border sharper than that."""

AIR_BELOW_HU = -260.0
"""Between lung (-950, congested -400) and fat (-100, at worst -160)."""

ROOM_AIR_BELOW_HU = -930.0
"""More than half of a region of room air lies below; of a lung, its vessels included, less does."""

WINDPIPE_BELOW_HU = -915.0
"""Block means in the windpipe; the lung beside it, behind a wall thinner than a block, is denser."""

BONE_ABOVE_HU = 170.0
"""Block means this high are bone or contrast; calcium in a coronary artery is too small to reach it."""

BLOOD_HU = (0.0, 90.0)
"""Block means of blood and muscle without contrast medium."""

LEAST_LUNG_SHARE = 0.25
"""Of the hull around both lungs, where the chest is. Beside the liver the lungs are thin crescents."""

LEAST_HEART_AREA_MM2 = 2500.0
"""Cross-section between the lungs; a heart has 5000 to 11000 at its middle, the great vessels less than 2500."""

CARINA_TO_TOP_MM = 12.0
"""No coronary artery lies closer below the carina than this: the pulmonary trunk is in between."""

CARINA_TO_APEX_MM = 155.0
"""No coronary artery lies further below the carina than this; hearts are 100 to 125 mm high."""

SPINE_TO_HEART_MM = 15.0
"""Esophagus, azygos vein and descending aorta lie between the spine and the back of the heart."""

HEART_REACH_MM = (-75.0, 115.0)
"""The heart lies within this range of x (right, left) from the middle of the spine."""


@dataclass(frozen=True, eq=False)
class HeartRegion:
    """Landmarks of the chest, as far as the scan shows them.

    Coarse arrays are (K, J, I) block means of `block` voxels of the CT.

    Parameters
    ----------
    block : CT voxels per coarse voxel, (slice, row, column)
    spacing_mm : of the coarse grid, (slice, row, column)
    origin_mm : LPS (x, y, z) of the middle of coarse voxel (0, 0, 0)
    hu : coarse HU
    lung : coarse, aerated lung and airways
    zone : coarse, between the lungs, in front of the spine, at the level of the heart
    heart : coarse, the largest body of blood and muscle in `zone` with the fat in its grooves
    spine_x_mm : LPS x of the middle of the vertebral bodies; the middle of the chest when no spine is seen
    spine_y_mm : (K,) LPS y of the front of the vertebral bodies
    ascending, descending : the aorta, where it was found
    carina_z_mm : LPS z; None when the scan does not show it
    root_mm : LPS of the aortic root at the level of the left main artery, as well as the scan shows it
    scale : size of the heart, 1 for an average adult
    blood_hu, noise_hu : mean and standard deviation of CT voxels in the blood pool; None when no heart was found
    in_view : a heart was found
    cut_top, cut_bottom : the scan begins or ends inside the heart
    field : "chest" when the lungs are seen whole from side to side, "heart" when the field of view cuts them
    """

    block: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    hu: NDArray[np.float32]
    lung: NDArray[np.bool_]
    zone: NDArray[np.bool_]
    heart: NDArray[np.bool_]
    spine_x_mm: float
    spine_y_mm: NDArray[np.float64]
    ascending: AorticCourse
    descending: AorticCourse
    carina_z_mm: float | None
    root_mm: tuple[float, float, float]
    scale: float
    blood_hu: float | None
    noise_hu: float | None
    in_view: bool
    cut_top: bool
    cut_bottom: bool
    field: str

    def sample(self, mask: NDArray, kji: ArrayLike) -> NDArray:
        """Value of a coarse array at CT voxels.

        Parameters
        ----------
        mask : (K, J, I)
        kji : (n, 3), slice, row, column of the CT

        Returns
        -------
        (n,)
        """
        coarse = np.asarray(kji) // self.block
        return mask[tuple(np.minimum(coarse, np.array(mask.shape) - 1).T)]

    def lps_mm(self, coarse_kji: ArrayLike) -> NDArray[np.float64]:
        """(n, 3) LPS of coarse indices; the axes of the grid are taken as the patient's, which spec 6.1 ensures."""
        kji = np.asarray(coarse_kji, dtype=np.float64)
        return kji[..., ::-1] * self.spacing_mm[::-1] + self.origin_mm

    def box(self, ct: CTVolume, margin_mm: float = 0.0) -> tuple[slice, slice, slice]:
        """CT voxels around `zone`, and a margin; empty when there is no zone."""
        found = ndimage.find_objects(self.zone.astype(np.uint8))
        if not found:
            return (slice(0, 0), slice(0, 0), slice(0, 0))
        # The last coarse voxel also stands for the CT voxels that did not fill a block.
        parts = []
        for n, axis in enumerate(found[0]):
            margin = round(margin_mm / ct.spacing_mm[n])
            stop = ct.shape[n] if axis.stop == self.zone.shape[n] else axis.stop * self.block[n] + margin
            parts.append(slice(max(0, axis.start * self.block[n] - margin), min(ct.shape[n], stop)))
        return parts[0], parts[1], parts[2]


def heart_region(ct: CTVolume) -> HeartRegion:
    """Find the heart between the lungs.

    The zone where coronary arteries can be is what lies inside the hull of both lungs, in front of the spine, and,
    when the airway shows the carina, 12 to 155 mm below it.
    """
    hu, block = _block_means(ct)
    spacing = tuple(step * n for step, n in zip(ct.spacing_mm, block, strict=True))
    dz, dy, dx = spacing
    middle = [(n - 1) / 2 for n in block]
    origin = tuple(float(v) for v in ct.lps_mm(middle))
    z_mm, y_mm, x_mm = (origin[2 - a] + spacing[a] * np.arange(hu.shape[a]) for a in range(3))

    lung = _lungs(hu, dy * dx)
    hull = np.stack([fill_hull(part) for part in lung])
    hull_area = hull.sum((1, 2)) * dy * dx
    chest = lung.sum((1, 2)) > LEAST_LUNG_SHARE * np.maximum(hull.sum((1, 2)), 1)
    chest &= hull_area > 6000
    spine_x, spine_y = _spine(hu, lung, chest, x_mm, y_mm, dz)

    between = hull & ~lung & chest[:, None, None]
    between &= y_mm[None, :, None] < spine_y[:, None, None] - SPINE_TO_HEART_MM
    between &= (x_mm > spine_x + HEART_REACH_MM[0]) & (x_mm < spine_x + HEART_REACH_MM[1])
    carina = _carina(hu, spine_x, spine_y, x_mm, y_mm, z_mm)
    level = np.ones(len(z_mm), bool)
    if carina is not None:
        level = (z_mm < carina - CARINA_TO_TOP_MM) & (z_mm > carina - CARINA_TO_APEX_MM)
    between &= level[:, None, None]
    heart = _heart(hu, between, (dz, dy, dx))
    area = heart.sum((1, 2)) * dy * dx
    in_view = bool(area.max(initial=0) > LEAST_HEART_AREA_MM2)
    if not in_view:
        heart = np.zeros_like(heart)
    zone = between & (ndimage.distance_transform_edt(~heart, sampling=spacing) < 15.0) if in_view else heart
    near = ndimage.binary_dilation(hull & chest[:, None, None] & ~lung, np.ones((1, 3, 3)))
    ascending, descending = _aorta(hu, near, spine_x, spine_y, carina, spacing, x_mm, y_mm, z_mm)
    blood, noise = _blood_pool(ct, block, heart, descending, origin, (dz, dy, dx))
    seen = np.flatnonzero(area > LEAST_HEART_AREA_MM2)
    edge = lung[:, :, 0].any(1) | lung[:, :, -1].any(1)
    return HeartRegion(
        block=block,
        spacing_mm=(dz, dy, dx),
        origin_mm=(origin[0], origin[1], origin[2]),
        hu=hu,
        lung=lung,
        zone=zone,
        heart=heart,
        spine_x_mm=spine_x,
        spine_y_mm=spine_y,
        ascending=ascending,
        descending=descending,
        carina_z_mm=carina,
        root_mm=_root(heart, ascending, carina, x_mm, y_mm, z_mm),
        scale=1.0,
        blood_hu=blood,
        noise_hu=noise,
        in_view=in_view,
        cut_top=in_view and carina is None and int(seen[-1]) == len(z_mm) - 1,
        cut_bottom=in_view and int(seen[0]) == 0,
        field="heart" if bool(edge[chest].mean() > 0.5 if chest.any() else False) else "chest",
    )


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


def _block_means(ct: CTVolume) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
    block = tuple(max(1, min(round(GRID_MM / step), n)) for step, n in zip(ct.spacing_mm, ct.shape, strict=True))
    nk, nj, ni = block
    k, j, i = (size // n for size, n in zip(ct.shape, block, strict=True))
    means = np.empty((k, j, i), np.float32)
    wide = np.float32 if ct.hu.dtype == np.float32 else np.int32
    for coarse in range(k):  # a slice at a time: no copy of the volume
        part = ct.hu[coarse * nk : (coarse + 1) * nk, : j * nj, : i * ni]
        rows = part.reshape(nk, j, nj, i * ni).sum(axis=(0, 2), dtype=wide)
        means[coarse] = rows.reshape(j, i, ni).sum(axis=2)
    means /= nk * nj * ni
    return means, (nk, nj, ni)


def _lungs(hu: NDArray[np.float32], pixel_mm2: float) -> NDArray[np.bool_]:
    """Air inside the body: what is not room air, which reaches the border of the image and is emptier than lung."""
    lung = np.zeros(hu.shape, bool)
    for k, part in enumerate(hu):
        labels, n = ndimage.label(part < AIR_BELOW_HU)
        if not n:
            continue
        size = np.bincount(labels.ravel(), minlength=n + 1)
        empty = np.bincount(labels[part < ROOM_AIR_BELOW_HU], minlength=n + 1)
        at_border = np.zeros(n + 1, bool)
        for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            at_border[side] = True
        room = at_border & (empty > 0.5 * size)
        keep = ~room & (size * pixel_mm2 > 300)
        keep[0] = False
        lung[k] = keep[labels]
    return lung


def _spine(
    hu: NDArray[np.float32],
    lung: NDArray[np.bool_],
    chest: NDArray[np.bool_],
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    slice_mm: float,
) -> tuple[float, NDArray[np.float64]]:
    """Middle (x) and front (y, per slice) of the vertebral bodies.

    The spine is the bone that stays in one place from slice to slice behind the middle of the lungs; ribs wander.
    """
    seen = lung[chest].sum(axis=0) if chest.any() else np.zeros(hu.shape[1:])
    if not seen.any():
        return float(x_mm.mean()), np.full(len(hu), y_mm[-1] + 1)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    lung_y = (y_mm[rows[0]] + y_mm[rows[-1]]) / 2
    lung_x = (x_mm[columns[0]] + x_mm[columns[-1]]) / 2
    behind, near = y_mm > lung_y, np.abs(x_mm - lung_x) < 60
    bone = (hu > BONE_ABOVE_HU) & behind[None, :, None] & near
    spread = (30.0 / (y_mm[1] - y_mm[0]) / 2.35, 30.0 / (x_mm[1] - x_mm[0]) / 2.35)
    density = ndimage.gaussian_filter(bone[chest].mean(axis=0), spread)
    if density.max() < 0.05:
        return lung_x, np.full(len(hu), y_mm[-1] + 1)
    peak = np.unravel_index(int(density.argmax()), density.shape)
    spine_x = float(x_mm[peak[1]])
    column = bone[:, :, np.abs(x_mm - spine_x) < 12].mean(axis=2) > 0.3
    gap = max(2, round(10 / (y_mm[1] - y_mm[0])))
    front = np.full(len(hu), np.nan)
    for k, is_bone in enumerate(column):  # forward from the densest row until no bone follows within 10 mm
        row = peak[0]
        while (ahead := np.flatnonzero(is_bone[max(0, row - gap) : row])).size:
            row = max(0, row - gap) + int(ahead[0])
            front[k] = y_mm[row]
    known = np.flatnonzero(np.isfinite(front) & chest)
    if not known.size:
        return spine_x, np.full(len(hu), float(y_mm[peak[0]]) - 20)
    # Cancellous bone can be missed, never bone in front of the spine: trust the most forward quarter of 60 mm.
    window = max(1, min(round(60 / slice_mm), known.size))
    smooth = ndimage.percentile_filter(front[known], 25, size=window, mode="nearest")
    return spine_x, np.interp(np.arange(len(hu)), known, smooth)


def _carina(
    hu: NDArray[np.float32],
    spine_x: float,
    spine_y: NDArray[np.float64],
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    z_mm: NDArray[np.float64],
) -> float | None:
    """Lowest level of the windpipe: the slice above the one where its single round air space becomes two."""
    if len(z_mm) < 2:
        return None
    pixel_mm2 = (x_mm[1] - x_mm[0]) * (y_mm[1] - y_mm[0])
    alone = np.zeros(len(hu), bool)
    for k, part in enumerate(hu):
        columns = np.flatnonzero(np.abs(x_mm - spine_x) < 45)
        rows = np.flatnonzero((y_mm < spine_y[k]) & (y_mm > spine_y[k] - 65))
        if not rows.size:
            continue
        labels, _ = ndimage.label(part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] < WINDPIPE_BELOW_HU)
        found = 0
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            area = int((labels[box] == index).sum()) * pixel_mm2
            i = columns[0] + (box[1].start + box[1].stop - 1) / 2
            width = (box[1].stop - box[1].start) * (x_mm[1] - x_mm[0])
            if 60 < area < 600 and width < 29 and abs(np.interp(i, np.arange(len(x_mm)), x_mm) - spine_x) < 25:
                found += 1
        alone[k] = found == 1
    runs, n = ndimage.label(alone)
    best = max(range(1, n + 1), key=lambda run: int((runs == run).sum()), default=0)
    slices = np.flatnonzero(runs == best) if best else np.zeros(0, int)
    if slices.size * (z_mm[1] - z_mm[0]) < 25 or slices[0] == 0:
        return None
    return float(z_mm[slices[0]])


def _heart(
    hu: NDArray[np.float32], between: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """The largest solid body between the lungs, after vessels thinner than 20 mm are cut off."""
    solid = between & (hu > -150)
    if not solid.any():
        return solid
    core = np.stack([ndimage.distance_transform_edt(part, sampling=spacing[1:]) > 10 for part in solid])
    labels, n = ndimage.label(core)
    if not n:
        return core
    core = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return np.stack(
        [s & (ndimage.distance_transform_edt(~c, sampling=spacing[1:]) <= 11) for s, c in zip(solid, core, strict=True)]
    )


def _aorta(
    hu: NDArray[np.float32],
    near: NDArray[np.bool_],
    spine_x: float,
    spine_y: NDArray[np.float64],
    carina: float | None,
    spacing: tuple[float, float, float],
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    z_mm: NDArray[np.float64],
) -> tuple[AorticCourse, AorticCourse]:
    """Ascending and descending aorta by where they lie relative to the spine."""
    if not near.any():
        nowhere = AorticCourse(np.full((len(z_mm), 2), np.nan), np.full(len(z_mm), np.nan), np.zeros(len(z_mm)))
        return nowhere, nowhere
    votes = vote_circles(hu, near, x_mm, y_mm)
    right_left = x_mm[None, None, :] - spine_x
    front_back = y_mm[None, :, None] - spine_y[:, None, None]
    beside_spine = (right_left > 0) & (right_left < 50) & (front_back > -40) & (front_back < 20)
    before_spine = (right_left > -25) & (right_left < 40) & (front_back < -35) & (front_back > -120)
    if carina is not None:
        before_spine = before_spine & ((z_mm > carina - 70) & (z_mm < carina + 40))[:, None, None]
    descending = follow_aorta(
        votes, hu, beside_spine & near, spacing, x_mm, y_mm, expected_radius_mm=13, least_support=0.5
    )
    ascending = follow_aorta(
        votes, hu, before_spine & near, spacing, x_mm, y_mm, expected_radius_mm=17, least_support=0.45
    )
    return ascending, descending


def _root(
    heart: NDArray[np.bool_],
    ascending: AorticCourse,
    carina: float | None,
    x_mm: NDArray[np.float64],
    y_mm: NDArray[np.float64],
    z_mm: NDArray[np.float64],
) -> tuple[float, float, float]:
    """The lowest circle of the ascending aorta: below it muscle surrounds the root and its outline is lost."""
    slices = np.flatnonzero(ascending.found)
    if slices.size:
        x, y = ascending.center_mm[slices[:2]].mean(axis=0)
        return float(x), float(y), float(z_mm[slices[0]])
    if not heart.any():
        return float(x_mm.mean()), float(y_mm.mean()), float(z_mm.mean())
    k, j, i = np.nonzero(heart)
    top = float(np.percentile(z_mm[k], 95))
    high = z_mm[k] > top - 40
    return float(x_mm[i[high]].mean()), float(y_mm[j[high]].mean()), top - 25


def _blood_pool(
    ct: CTVolume,
    block: tuple[int, int, int],
    heart: NDArray[np.bool_],
    descending: AorticCourse,
    origin: tuple[float, ...],
    spacing: tuple[float, float, float],
) -> tuple[float | None, float | None]:
    """Mean and noise of blood: in the descending aorta where it is followed, else in the middle of the heart."""
    slices = np.flatnonzero(descending.found & (descending.support > 0.8))
    if slices.size < 3 and heart.any():
        slices = np.flatnonzero(heart.any(axis=(1, 2)))
    if not slices.size:
        return None, None
    inner = np.zeros(0, np.float32)
    means, deviations = [], []
    for k in slices[np.linspace(0, len(slices) - 1, min(9, len(slices))).astype(int)]:
        if descending.found[k]:
            x, y, reach = *descending.center_mm[k], max(4.0, descending.radius_mm[k] - 4)
        else:
            j, i = np.nonzero(heart[k])
            x, y, reach = origin[0] + i.mean() * spacing[2], origin[1] + j.mean() * spacing[1], 12.0
        column, row = (x - origin[0]) / spacing[2] * block[2], (y - origin[1]) / spacing[1] * block[1]
        rows = np.arange(
            max(0, int(row - reach / ct.spacing_mm[1])), min(ct.shape[1], int(row + reach / ct.spacing_mm[1]) + 1)
        )
        columns = np.arange(
            max(0, int(column - reach / ct.spacing_mm[2])), min(ct.shape[2], int(column + reach / ct.spacing_mm[2]) + 1)
        )
        round_mask = (
            np.hypot((rows[:, None] - row) * ct.spacing_mm[1], (columns[None] - column) * ct.spacing_mm[2]) < reach
        )
        inner = ct.hu[min(ct.shape[0] - 1, k * block[0] + block[0] // 2)][np.ix_(rows, columns)][round_mask]
        if inner.size > 20:
            means.append(float(np.median(inner)))
            # From quartiles: a plaque or a vessel in the circle is not noise.
            deviations.append(float(np.subtract(*np.percentile(inner, (75, 25)))) / 1.349)
    return (float(np.median(means)), float(np.median(deviations))) if means else (None, None)
