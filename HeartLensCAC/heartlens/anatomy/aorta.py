"""The aorta, slice by slice: round, 20 to 46 mm wide, and in the same place on the next slice.

Its wall shows where fat or lung lies against it. Every such border votes for the centers it could belong to
(a Hough transform with the gradient's direction), and the best chain of circles through the slices is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from heartlens.anatomy.chest import Chest
from heartlens.anatomy.coarse import CoarseGrid

RADII_MM = np.arange(10.0, 23.5, 1.5)
"""Radius of the adult thoracic aorta, its wall included."""

BORDER_HU_PER_MM = 4.0
"""Least gradient of a border between soft tissue and fat, which is 140 HU over two or three blocks."""

LEAST_COURSE_MM = 18.0
"""A shorter chain of circles in a long scan is chance."""

PER_SLICE = 10
"""Circles tried on each slice."""


@dataclass(frozen=True, eq=False)
class AorticCourse:
    """Circles of one part of the aorta.

    Parameters
    ----------
    center_mm
        (K, 2) LPS x, y on each coarse slice, NaN where it was not found
    radius_mm
        (K,)
    support
        (K,) share of the circle that fat or lung outlines, 0 to 1
    """

    center_mm: NDArray[np.float64]
    radius_mm: NDArray[np.float64]
    support: NDArray[np.float64]

    @property
    def found(self) -> NDArray[np.bool_]:
        """(K,) slices on which the circle was found."""
        return np.isfinite(self.radius_mm)

    def within(self, slices: slice, count: int) -> AorticCourse:
        """The same course on a grid of `count` slices, of which it covered some."""
        whole = _nowhere(count)
        whole.center_mm[slices], whole.radius_mm[slices] = self.center_mm, self.radius_mm
        whole.support[slices] = self.support
        return whole

    def distance_mm(self, k: NDArray[np.integer], x_mm: NDArray, y_mm: NDArray) -> NDArray[np.float64]:
        """(n,) distance from the wall, negative inside; infinite on slices where the aorta was not found."""
        distance = np.hypot(x_mm - self.center_mm[k, 0], y_mm - self.center_mm[k, 1]) - self.radius_mm[k]
        return np.where(np.isfinite(distance), distance, np.inf)


def find_aorta(grid: CoarseGrid, chest: Chest, heart: NDArray[np.bool_]) -> tuple[AorticCourse, AorticCourse]:
    """Ascending and descending aorta.

    The ascending aorta lies near the middle of the silhouette between the lungs; the superior vena cava right of it is
    thinner, the pulmonary trunk lies at the left border. It is looked for from 65 mm below the carina to 40 mm above,
    or, where no carina is seen, in the upper 70 mm of the heart. From its root it leans to the right. The descending
    aorta lies beside the spine.
    """
    nowhere = _nowhere(grid.shape[0])
    near = chest.hull & chest.slices[:, None, None] & ~chest.lung
    near &= np.abs(grid.x_mm - chest.spine_x_mm) < 75
    near &= np.abs(grid.y_mm[None, :, None] - chest.spine_y_mm[:, None, None] + 55) < 100
    boxes = ndimage.find_objects(near.astype(np.uint8))
    if not boxes:
        return nowhere, nowhere
    k, j, i = (slice(max(0, part.start - 2), part.stop + 2) for part in boxes[0])
    part = replace(
        grid, hu=grid.hu[k, j, i], x_mm=grid.x_mm[i], y_mm=grid.y_mm[j], z_mm=grid.z_mm[k], outside=grid.outside[j, i]
    )
    near = ndimage.binary_dilation(near[k, j, i], np.ones((1, 3, 3)))
    votes = vote_circles(part, near)
    to_left = part.x_mm[None, None, :] - chest.spine_x_mm
    to_back = part.y_mm[None, :, None] - chest.spine_y_mm[k, None, None]
    beside = near & (to_left > -5) & (to_left < 55) & (to_back > -40) & (to_back < to_left - 8)
    descending = follow_aorta(
        part, votes, beside, np.zeros(part.shape, np.float32), expected_radius_mm=13, least_support=0.5
    )
    prior, before = _middle_of_the_silhouette(part, heart[k, j, i])
    before &= near & (to_back < -30)
    top = grid.z_mm[np.flatnonzero(heart.any(axis=(1, 2)))[-1]] if heart.any() else grid.z_mm[-1]
    low, high = top - 70, np.inf
    if chest.carina_z_mm is not None:
        low, high = chest.carina_z_mm - 65, chest.carina_z_mm + 40
    before &= ((part.z_mm > low) & (part.z_mm < high))[:, None, None]
    ascending = follow_aorta(part, votes, before, prior, expected_radius_mm=16, least_support=0.35, leftward_cost=0.3)
    return ascending.within(k, grid.shape[0]), descending.within(k, grid.shape[0])


def outline_beside_spine(grid: CoarseGrid, chest: Chest) -> tuple[float, float]:
    """How much of a descending aorta is outlined to the left and to the right of the spine, 0 to about 1 per slice."""
    slices = np.flatnonzero(chest.slices)
    columns = np.flatnonzero(np.abs(grid.x_mm - chest.spine_x_mm) < 75)
    front = chest.spine_y_mm[slices]
    rows = np.flatnonzero((grid.y_mm > front.min() - 60) & (grid.y_mm < front.max() + 60))
    if columns.size < 5 or rows.size < 5:
        return 0.0, 0.0
    k, j, i = (slice(int(part[0]), int(part[-1]) + 1) for part in (slices, rows, columns))
    part = replace(
        grid, hu=grid.hu[k, j, i], x_mm=grid.x_mm[i], y_mm=grid.y_mm[j], z_mm=grid.z_mm[k], outside=grid.outside[j, i]
    )
    votes = vote_circles(part, np.broadcast_to(~part.outside, part.shape))
    to_back = part.y_mm[None, :, None] - chest.spine_y_mm[k, None, None]
    outlines = []
    for sign in (1.0, -1.0):
        aside = sign * (part.x_mm[None, None, :] - chest.spine_x_mm)
        beside = (aside > 5) & (aside < 55) & (to_back > -40) & (to_back < aside - 8)
        course = follow_aorta(
            part, votes, beside, np.zeros(part.shape, np.float32), expected_radius_mm=13, least_support=0.5
        )
        outlines.append(float(np.where(course.found, course.support, 0).mean()))
    return outlines[0], outlines[1]


def _middle_of_the_silhouette(
    grid: CoarseGrid, heart: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """How far each place is from where the ascending aorta is expected between the borders of the heart.

    Returns
    -------
    tuple[NDArray[np.float32], NDArray[np.bool_]]
        (K, J, I) penalty in units of support, 0 at best; (K, J, I) slices with a silhouette, or next to one
    """
    penalty = np.zeros(grid.shape, np.float32)
    slices = np.flatnonzero(heart.any(axis=(1, 2)))
    for k in range(grid.shape[0] if slices.size else 0):
        nearest = heart[slices[np.abs(slices - k).argmin()]]
        columns, rows = np.flatnonzero(nearest.any(axis=0)), np.flatnonzero(nearest.any(axis=1))
        across = (np.arange(grid.shape[2]) - columns[0]) / max(1, columns[-1] - columns[0])
        along = (np.arange(grid.shape[1]) - rows[0]) / max(1, rows[-1] - rows[0])
        penalty[k] = (((along[:, None] - 0.47) / 0.14) ** 2 + ((across[None] - 0.42) / 0.12) ** 2) / 8
    return -penalty, np.ones(grid.shape, bool)


def _nowhere(slices: int) -> AorticCourse:
    return AorticCourse(np.full((slices, 2), np.nan), np.full(slices, np.nan), np.zeros(slices))


def vote_circles(grid: CoarseGrid, near: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Share of each possible circle that a border outlines.

    Parameters
    ----------
    grid
        The CT at a coarse resolution.
    near
        (K, J, I) where to look for borders

    Returns
    -------
    NDArray[np.float32]
        (radii, K, J, I), about 1 for a vessel with fat or lung all around
    """
    hu = grid.hu
    _, dy, dx = grid.spacing_mm
    # Calcium is made like blood, and lung like fat, so that a border counts the same whatever lies beyond it.
    smooth = ndimage.gaussian_filter(np.clip(hu, -150, 60), (0, 1, 1))
    gy = ndimage.sobel(smooth, 1) / (8 * dy)
    gx = ndimage.sobel(smooth, 2) / (8 * dx)
    strength = np.hypot(gx, gy)
    k, j, i = np.nonzero(near & (strength > BORDER_HU_PER_MM))
    strength = strength[k, j, i]
    weight = np.minimum(strength, 15) / 15
    ny, nx = gy[k, j, i] / strength, gx[k, j, i] / strength
    votes = np.zeros((len(RADII_MM), *hu.shape), np.float32)
    for n, radius in enumerate(RADII_MM):
        cj, ci = np.rint(j + ny * radius / dy).astype(int), np.rint(i + nx * radius / dx).astype(int)
        inside = (cj >= 0) & (cj < hu.shape[1]) & (ci >= 0) & (ci < hu.shape[2])
        at = np.ravel_multi_index((k[inside], cj[inside], ci[inside]), hu.shape)
        count = np.bincount(at, weight[inside], minlength=hu.size).reshape(hu.shape)
        votes[n] = ndimage.gaussian_filter(count, (0, 1, 1)) * (1.0 * dx / np.sqrt(15.0 * radius))
    return votes


def follow_aorta(
    grid: CoarseGrid,
    votes: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    place_prior: NDArray[np.float32],
    *,
    expected_radius_mm: float,
    least_support: float,
    leftward_cost: float = 0.0,
) -> AorticCourse:
    """The chain of circles with the most border, one a slice, that moves little from slice to slice.

    Parameters
    ----------
    grid
        The CT at a coarse resolution.
    votes
        (radii, K, J, I) of `vote_circles`
    allowed
        (K, J, I) where the center may lie
    place_prior
        (K, J, I) added to the votes of a center, 0 or less
    expected_radius_mm
        Where the prior of the radius has its middle.
    least_support
        Per slice; a slice below it costs the chain more than it brings.
    leftward_cost
        Of leaning to the left on the way up by as much as the slice distance.
    """
    dz, dy, dx = grid.spacing_mm
    slices = grid.shape[0]
    solid = ndimage.uniform_filter((grid.hu > -30).astype(np.float32), (0, round(14 / dy) | 1, round(14 / dx) | 1))
    # Vessel radii differ between people by a fifth, so this prior is wide.
    prior = (-0.5 * ((RADII_MM - expected_radius_mm) / 3.5) ** 2 * 0.2).astype(np.float32)
    weighed = votes + prior[:, None, None, None] + place_prior
    best_radius = weighed.argmax(axis=0)
    score = np.where(allowed & (solid > 0.95), weighed.max(axis=0), 0)
    peak = (score == ndimage.maximum_filter(score, (0, 5, 5))) & (score > 0)
    value = np.full((slices, PER_SLICE), -np.inf)
    place = np.zeros((slices, PER_SLICE, 3))
    outlined = np.zeros((slices, PER_SLICE))
    for k in range(slices):
        j, i = np.nonzero(peak[k])
        order = np.argsort(-score[k, j, i])[:PER_SLICE]
        j, i = j[order], i[order]
        n = len(order)
        radius = RADII_MM[best_radius[k, j, i]]
        place[k, :n] = np.stack([grid.x_mm[i], grid.y_mm[j], radius], axis=1)
        value[k, :n] = score[k, j, i] - least_support
        outlined[k, :n] = votes[best_radius[k, j, i], k, j, i]

    # Best chain: a slice may start one, continue it, or leave it; steps cost by their length.
    total = np.maximum(value, -1e9)
    came_from = np.full((slices, PER_SLICE), -1)
    for k in range(1, slices):
        step = place[k][:, None] - place[k - 1][None]
        moved = np.hypot(step[..., 0], step[..., 1])
        # A block of play; beyond it the aorta leans by less than the slice distance.
        cost = 0.25 * (np.maximum(moved - dx, 0) / max(dz, 2.5)) ** 2 + 0.02 * (step[..., 2] / 1.5) ** 2
        cost += leftward_cost * np.maximum(step[..., 0] - dx / 2, 0) / max(dz, 2.5)
        gain = total[k - 1][None] - cost
        best = gain.argmax(axis=1)
        best_gain = gain[np.arange(PER_SLICE), best]
        better = best_gain > 0
        total[k] = total[k] + np.where(better, best_gain, 0)
        came_from[k] = np.where(better, best, -1)
    center = np.full((slices, 2), np.nan)
    radius = np.full(slices, np.nan)
    support = np.zeros(slices)
    k, n = (int(index) for index in np.unravel_index(int(total.argmax()), total.shape))
    if total[k, n] > 0:
        last = k
        while True:
            center[k], radius[k] = place[k, n, :2], place[k, n, 2]
            support[k] = outlined[k, n]
            if came_from[k, n] < 0:
                break
            k, n = k - 1, int(came_from[k, n])
        if (last - k + 1) * dz < min(LEAST_COURSE_MM, 0.6 * slices * dz):
            return _nowhere(slices)
    return AorticCourse(center, radius, support)
